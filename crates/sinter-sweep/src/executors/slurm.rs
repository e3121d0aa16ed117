//! Jobs of a cluster that Slurm shares out.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Bytes, write_whole};

use super::{Command, Crew, Ended, Execute, ExecutorError};

/// Tasks of one array job of Slurm. The folder of all runs must be one that every node sees, on a file system whose locks hold (the store refuses others). Workers
/// that are preempted or that time runs out for put back what they are at; the driver starts others as long as there is work.
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
    /// Further options of sbatch, each as one word: `--qos=long`.
    pub options: Vec<String>,
    /// Lines of shell that are run before the worker: `module load cuda`.
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

/// Which job each worker is, for a driver that comes after.
const JOBS: &str = "slurm.json";

impl Execute for Slurm {
    fn crew(&self, command: Command) -> Result<Box<dyn Crew>, ExecutorError> {
        let known = std::fs::read(command.folder.join(JOBS)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut jobs = Jobs { options: self.clone(), command, all: known.unwrap_or_default() };
        // Those that ended while nobody looked are nobody's loss: what they did stands in the store.
        if let Some(there) = jobs.queued()? {
            jobs.all.retain(|_, task| there.contains(task));
        }
        Ok(Box::new(jobs))
    }
}

struct Jobs {
    options: Slurm,
    command: Command,
    /// Workers by name, each with its task: `123_4`.
    all: BTreeMap<String, String>,
}

/// Asks one of Slurm's programs; gives what it printed, or what it complained of.
fn ask(program: &'static str, words: &[String], input: &str) -> Result<Result<String, String>, ExecutorError> {
    let absent = |source| ExecutorError::Absent { executor: "slurm", program, source };
    let mut process = std::process::Command::new(program);
    process.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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

    fn keep(&self) -> Result<(), ExecutorError> {
        let path = self.command.folder.join(JOBS);
        let text = serde_json::to_vec(&self.all).unwrap_or_default();
        write_whole(&path, &text).map_err(|e| ExecutorError::Io { path: e.path, source: e.source })
    }

    /// What every task runs. The task's number is the worker's.
    fn script(&self) -> String {
        let words: Vec<String> = self.command.words.iter().map(|word| quoted(word)).collect();
        let folder = quoted(&self.command.folder.display().to_string());
        let setup: String = self.options.setup.iter().map(|line| format!("{line}\n")).collect();
        format!(
            "#!/bin/sh\n\
             # A signal is the worker's to answer; this waits until it has.\n\
             trap : INT TERM\n\
             name=worker-$SLURM_ARRAY_TASK_ID\n\
             rm -f {folder}/$name.code\n\
             export OMP_NUM_THREADS={cpus} RAYON_NUM_THREADS={cpus}\n\
             {setup}{program} {words} $name\n\
             code=$?\n\
             echo $code > {folder}/$name.code\n\
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
            "--parsable".to_string(),
            format!("--array={}", numbers.join(",")),
            format!("--job-name=sinter-{}", self.command.sweep),
            format!("--output={}", self.command.folder.join("worker-%a.log").display()),
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

    /// The tasks that are queued or running; `None` where Slurm does not answer now.
    fn queued(&self) -> Result<Option<Vec<String>>, ExecutorError> {
        let mut jobs: Vec<&str> = self.all.values().filter_map(|task| task.split('_').next()).collect();
        jobs.dedup();
        let mut there = Vec::new();
        for job in jobs {
            let words = ["--noheader", "--array", "--format=%F_%K %T", &format!("--jobs={job}")].map(String::from);
            match ask("squeue", &words, "")? {
                Ok(text) => there.extend(text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_string()))),
                // Slurm forgets jobs that are over.
                Err(said) if said.contains("Invalid job id") => {}
                Err(said) => {
                    tracing::warn!("squeue: {said}; workers are taken to be at it still");
                    return Ok(None);
                }
            }
        }
        Ok(Some(there))
    }
}

impl Crew for Jobs {
    fn present(&self) -> Vec<String> {
        self.all.keys().cloned().collect()
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
        let job = answer.map_err(|said| ExecutorError::Refused { program: "sbatch", said })?;
        // `123`, or `123;cluster`.
        let job = job.split(';').next().unwrap_or_default().to_string();
        self.all.extend(numbers.iter().map(|number| (format!("worker-{number}"), format!("{job}_{number}"))));
        self.keep()
    }

    fn ended(&mut self) -> Result<Vec<Ended>, ExecutorError> {
        let Some(there) = self.queued()? else { return Ok(vec![]) };
        let gone: Vec<String> = self.all.iter().filter(|(_, task)| !there.contains(task)).map(|(name, _)| name.clone()).collect();
        let ended = gone.into_iter().map(|name| {
            self.all.remove(&name);
            let code = std::fs::read_to_string(self.code(&name)).ok().and_then(|text| text.trim().parse::<i32>().ok());
            let how = code.map_or("gone from the queue".into(), |code| format!("exit status: {code}"));
            Ended { name, well: code == Some(0), writer: None, how }
        });
        let ended: Vec<Ended> = ended.collect();
        if !ended.is_empty() {
            self.keep()?;
        }
        Ok(ended)
    }

    fn stop(&mut self) {
        for task in self.all.values() {
            // One that is gone already has stopped; one that waits in the queue never begins.
            let running = ask("scancel", &["--signal=INT".into(), "--full".into(), task.clone()], "");
            let waiting = ask("scancel", &["--state=PENDING".into(), task.clone()], "");
            for said in
                [running, waiting].into_iter().filter_map(|answer| answer.map_or_else(|e| Some(e.to_string()), Result::err))
            {
                tracing::debug!("scancel {task}: {said}");
            }
        }
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
        let jobs = Jobs { options, command, all: BTreeMap::new() };
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
        assert!(script.contains("module load x\n'/opt/sinter' 'sweep' '/a b/it'\\''s.yaml' '--worker' $name\n"), "{script}");
    }
}
