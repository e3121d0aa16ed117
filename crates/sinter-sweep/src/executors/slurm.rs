//! Jobs of a cluster that Slurm shares out.

use std::collections::BTreeSet;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Bytes;

use super::{Command, Crew, Ended, Execute, ExecutorError};

/// Tasks of one array job of Slurm, on one node: the store of trials can be shared by processes of one machine alone. Workers that are preempted, or whose time
/// is over, put back what they are at; the driver starts others as long as there is work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// Where jobs queue. Default: the cluster's own.
    pub partition: Option<String>,
    /// Who pays.
    pub account: Option<String>,
    /// Generic resources, such as `gpu:1`.
    pub gres: Option<String>,
    /// The most time of a worker: `90m`, `12h`, `14d`.
    pub time: Option<Span>,
    /// Cores of each worker. Default: 1.
    pub cpus: NonZeroUsize,
    /// Memory of each worker.
    pub memory: Option<Bytes>,
    /// Further options of sbatch, each as one word: `--qos=long`; `--nodelist=NODE` on a cluster of several nodes.
    pub options: Vec<String>,
    /// Lines of bash that are run before the worker, in a login shell: `module load cuda`. Where one fails, so does the worker.
    pub setup: Vec<String>,
}

impl Default for Slurm {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            gres: None,
            time: None,
            cpus: NonZeroUsize::MIN,
            memory: None,
            options: vec![],
            setup: vec![],
        }
    }
}

/// A time to which its unit belongs, since Slurm takes `14-0` for fourteen days and `14` for minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    minutes: u64,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time: write a whole number and m, h or d, such as 90m, 12h or 14d");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let each = match unit {
            'm' => 1,
            'h' => 60,
            'd' => 24 * 60,
            _ => return Err(wrong()),
        };
        let count: u64 = text[..text.len() - 1].trim().parse().map_err(|_| wrong())?;
        count.checked_mul(each).filter(|m| (1..=525_600 * 10).contains(m)).map(|minutes| Self { minutes }).ok_or_else(wrong)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}m", self.minutes))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+ *[mhd]$" })
    }
}

impl Execute for Slurm {
    fn crew(&self, command: Command) -> Result<Box<dyn Crew>, ExecutorError> {
        let mut jobs = Jobs { options: self.clone(), command, all: BTreeSet::new(), asked: Instant::now() };
        // Of a driver that was killed some may still be at it.
        jobs.all = jobs.queued()?.unwrap_or_default();
        Ok(Box::new(jobs))
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}

/// The tasks of this sweep. Slurm itself knows which they are: by the name of the job, and by the folder that it runs in.
struct Jobs {
    options: Slurm,
    command: Command,
    /// Names of workers that are queued or running, as far as is known.
    all: BTreeSet<String>,
    /// When the queue was asked last.
    asked: Instant,
}

/// Between two questions at the queue: it serves others too.
const ASK: Duration = Duration::from_secs(5);

/// Asks one of Slurm's programs; gives what it printed, or what it complained of.
fn ask(program: &'static str, words: &[String], input: &str) -> Result<Result<String, String>, ExecutorError> {
    let absent = |source| ExecutorError::Absent { executor: "slurm", program, source };
    let mut process = std::process::Command::new(program);
    // Ctrl-C is not theirs to hear.
    process.process_group(0).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().map_err(absent)?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not read says why.
        let _unread = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(absent)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Jobs {
    /// Where a worker writes how it ended.
    fn code(&self, name: &str) -> PathBuf {
        self.command.folder.join(format!("{name}.code"))
    }

    fn job_name(&self) -> String {
        format!("sinter-{}", self.command.sweep)
    }

    /// What every task runs. The task's number is the worker's.
    fn script(&self) -> String {
        let words: Vec<String> = self.command.words.iter().map(|word| quoted(word)).collect();
        let folder = quoted(&self.command.folder.display().to_string());
        let setup: String = self.options.setup.iter().map(|line| format!("{line}\n")).collect();
        format!(
            "#!/bin/bash -l\n\
             name=worker-$SLURM_ARRAY_TASK_ID\n\
             cd {folder}\n\
             rm -f $name.code\n\
             trap 'echo 130 > $name.code; exit 130' INT TERM\n\
             export OMP_NUM_THREADS={cpus} RAYON_NUM_THREADS={cpus}\n\
             set -e\n\
             {setup}set +e\n\
             {program} {words} $name &\n\
             worker=$!\n\
             # Slurm tells this shell alone; the worker ends well, once.\n\
             trap 'kill -INT $worker' INT\n\
             trap 'kill -TERM $worker' TERM\n\
             while kill -0 $worker 2> /dev/null; do wait $worker; code=$?; done\n\
             echo $code > $name.code\n\
             exit $code\n",
            cpus = self.options.cpus,
            program = quoted(&self.command.program.display().to_string()),
            words = words.join(" "),
        )
    }

    /// The words of sbatch for the tasks of these numbers.
    fn words(&self, numbers: &[String]) -> Vec<String> {
        let o = &self.options;
        let mut words = vec![
            format!("--array={}", numbers.join(",")),
            format!("--job-name={}", self.job_name()),
            format!("--chdir={}", self.command.folder.display()),
            // Slurm takes `%` for a pattern.
            format!("--output={}/worker-%a.log", self.command.folder.display().to_string().replace('%', "%%")),
            "--open-mode=append".into(),
            "--requeue".into(),
            format!("--cpus-per-task={}", o.cpus),
            // A minute to put back what a worker is at, before its time is over.
            "--signal=B:TERM@60".into(),
        ];
        let named = [("partition", &o.partition), ("account", &o.account), ("gres", &o.gres)];
        words.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
        words.extend(o.time.map(|t| format!("--time={}", t.minutes)));
        words.extend(o.memory.map(|m| format!("--mem={}K", m.0.div_ceil(1024))));
        words.extend(o.options.iter().cloned());
        words
    }

    /// The tasks of this sweep that are queued or running, as squeue writes them by `format`; what it complained of where Slurm does not answer now.
    fn tasks(&self, format: &str) -> Result<Result<Vec<String>, String>, ExecutorError> {
        let (name, format) = (format!("--name={}", self.job_name()), format!("--format={format} %Z"));
        let folder = self.command.folder.display().to_string();
        // Sweeps of one name may lie in several folders.
        let own =
            |line: &str| line.trim().split_once(' ').filter(|(_, place)| *place == folder).map(|(task, _)| task.to_string());
        let answer = ask("squeue", &["--me".into(), "--noheader".into(), "--array".into(), format, name], "")?;
        Ok(answer.map(|text| text.lines().filter_map(own).collect()))
    }

    /// Names of the workers that are queued or running; `None` where Slurm does not answer now.
    fn queued(&self) -> Result<Option<BTreeSet<String>>, ExecutorError> {
        Ok(match self.tasks("%K")? {
            Ok(numbers) => Some(numbers.into_iter().map(|number| format!("worker-{number}")).collect()),
            Err(said) => {
                tracing::warn!("squeue: {said}; workers are taken to be at it still");
                None
            }
        })
    }

    /// Cancels tasks, or sends them a signal.
    fn cancel(&self, how: &[&str]) {
        let Ok(Ok(tasks)) = self.tasks("%F_%K") else { return };
        if tasks.is_empty() {
            return;
        }
        let words: Vec<String> = how.iter().map(|word| word.to_string()).chain(tasks).collect();
        if let Ok(Err(said)) = ask("scancel", &words, "") {
            tracing::debug!("scancel: {said}");
        }
    }
}

impl Crew for Jobs {
    fn present(&self) -> Vec<String> {
        self.all.iter().cloned().collect()
    }

    fn start(&mut self, names: &[String]) -> Result<(), ExecutorError> {
        let numbers: Vec<String> = names.iter().filter_map(|name| Some(name.strip_prefix("worker-")?.to_string())).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        for name in names {
            // Of an earlier worker of this name.
            let _none = std::fs::remove_file(self.code(name));
        }
        let answer = ask("sbatch", &self.words(&numbers), &self.script())?;
        answer.map_err(|said| ExecutorError::Refused { program: "sbatch", said })?;
        self.all.extend(names.iter().cloned());
        Ok(())
    }

    fn ended(&mut self) -> Result<Vec<Ended>, ExecutorError> {
        if self.asked.elapsed() < ASK {
            return Ok(vec![]);
        }
        self.asked = Instant::now();
        let Some(there) = self.queued()? else { return Ok(vec![]) };
        let gone: Vec<String> = self.all.difference(&there).cloned().collect();
        let ended = gone.into_iter().map(|name| {
            self.all.remove(&name);
            let code = std::fs::read_to_string(self.code(&name)).ok().and_then(|text| text.trim().parse::<i32>().ok());
            let how = code.map_or("gone from the queue".into(), |code| format!("exit status: {code}"));
            // 130 and 143: it was asked to end, by a signal that Slurm passed on.
            let taken_away = code.is_none_or(|code| code == 130 || code == 143);
            Ended { name, well: code == Some(0), taken_away, writer: None, how }
        });
        Ok(ended.collect())
    }

    fn stop(&mut self) {
        // What waits in the queue never begins; what runs ends after the step that it is at.
        self.cancel(&["--state=PENDING"]);
        self.cancel(&["--signal=INT", "--batch"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_their_unit() {
        let minutes = |text: &str| text.parse::<Span>().map(|s| s.minutes);
        assert_eq!([minutes("90m"), minutes("12h"), minutes("14d")], [Ok(90), Ok(720), Ok(20_160)]);
        for text in ["14-0", "14", "", "0m", "h", "1.5h", "12:00:00", "99999999999999999999d", "µ"] {
            assert!(minutes(text).unwrap_err().contains("90m, 12h or 14d"), "{text}");
        }
    }

    #[test]
    fn what_slurm_is_told() {
        let options: Slurm = serde_yaml::from_str(
            "{ partition: gpu, gres: 'gpu:1', time: 2h, cpus: 4, memory: 8 GiB, options: [--qos=long], setup: [module load x] }",
        )
        .unwrap();
        let command = Command {
            program: "/opt/sinter".into(),
            words: vec!["sweep".into(), "/a b/it's.yaml".into(), "--worker".into()],
            folder: "/out/workers".into(),
            count: 3,
            sweep: "tried".into(),
        };
        let jobs = Jobs { options, command, all: BTreeSet::new(), asked: Instant::now() };
        let words = jobs.words(&["1".into(), "3".into()]);
        for word in [
            "--array=1,3",
            "--partition=gpu",
            "--gres=gpu:1",
            "--time=120",
            "--cpus-per-task=4",
            "--mem=8388608K",
            "--qos=long",
            "--requeue",
        ] {
            assert!(words.iter().any(|w| w == word), "{word} in {words:?}");
        }
        let script = jobs.script();
        assert!(
            script.contains("module load x\nset +e\n'/opt/sinter' 'sweep' '/a b/it'\\''s.yaml' '--worker' $name &\n"),
            "{script}"
        );
    }
}
