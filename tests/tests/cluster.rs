//! A sweep whose workers are jobs of Slurm.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use sinter_fixtures::sweeps::{SWEEP, assert_same, calm, found, prepare, said, status};
use sinter_fixtures::{sinter, sinter_command};

/// Where `cargo xtask slurm up` leaves the configuration of its cluster; `None` where no cluster answers.
fn cluster() -> Option<std::path::PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/slurm/slurm.conf");
    let conf = std::env::var_os("SLURM_CONF").map_or(own, Into::into);
    let answers = std::process::Command::new("sinfo").env("SLURM_CONF", &conf).output().is_ok_and(|o| o.status.success());
    if !answers {
        assert!(std::env::var_os("SINTER_SLURM").is_none(), "no cluster answers: `cargo xtask slurm up` starts one");
        eprintln!("skipped: no Slurm (`cargo xtask slurm up` starts a cluster of one node)");
    }
    answers.then_some(conf)
}

/// On a cluster: a worker is killed, its job is cancelled by others, the driver is killed, and another one takes over what still runs.
#[test]
fn a_cluster_loses_nothing_and_does_nothing_twice() {
    let Some(conf) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (sweep, wanted) = calm(folder);
    let executor = "executor: { slurm: { partition: test, time: 10m, setup: [export SINTER_ON_A_NODE=1] } }\n";
    std::fs::write(folder.join("s.yaml"), format!("{sweep}{executor}")).unwrap();
    let drive = || {
        let mut driver = sinter_command(folder, &["sweep", "s.yaml", "--out", "rough", "--workers", "2", "--json"]);
        driver.env("SLURM_CONF", &conf).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let asked = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).env("SLURM_CONF", &conf).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let running = || {
        let there = folder.join("rough/sweeps/sizes/sweep.db").is_file();
        if there { status(folder, "rough")["states"]["running"].as_i64().unwrap_or(0) } else { 0 }
    };
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(180);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "{what}: {}", asked("squeue", &[]));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let mut driver = drive();
    until("two trials run", &|| running() == 2);
    // The program that one of the jobs runs, and the driver.
    let own = format!("--out {}", folder.join("rough").display());
    let workers: Vec<String> =
        asked("pgrep", &["-f", "--", &format!("{own}.*--worker worker-")]).lines().map(String::from).collect();
    assert!(!workers.is_empty());
    asked("kill", &["-9", &workers[workers.len() - 1]]);
    asked("kill", &["-9", &driver.id().to_string()]);
    driver.wait().unwrap();
    // Another driver: it finds one job at it still, and starts the other again; then that one is cancelled.
    let mut driver = drive();
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut heard = Vec::new();
    let mut cancelled = false;
    for line in lines {
        heard.push(line);
        if !cancelled && heard.iter().filter(|l| l.contains("\"ended\"")).count() == 2 {
            let task = asked("squeue", &["--noheader", "--array", "--states=RUNNING", "--format=%F_%K"]);
            let task = task.lines().next().unwrap_or_default().to_string();
            asked("scancel", &["--signal=KILL", "--full", &task]);
            cancelled = true;
        }
    }
    assert!(driver.wait().unwrap().success(), "{}", heard.join("\n"));
    assert!(
        cancelled && heard.iter().any(|l| l.contains("workers of an earlier driver are still at it")),
        "{}",
        heard.join("\n")
    );
    let state = status(folder, "rough");
    assert_eq!(
        (&state["states"]["done"], &state["states"]["running"], &state["states"]["waiting"]),
        (&10.into(), &0.into(), &0.into())
    );
    assert_same(found(folder, "rough"), wanted);

    // Ctrl-C puts back what is under way, and takes the jobs out of the queue.
    let more = format!("{}{executor}", sweep.replace("trials: 10", "trials: 13"));
    std::fs::write(folder.join("s.yaml"), more).unwrap();
    let mut driver = drive();
    until("a trial runs", &|| running() > 0);
    asked("kill", &["-INT", &driver.id().to_string()]);
    assert_eq!(driver.wait().unwrap().code(), Some(130));
    until("the queue is empty", &|| asked("squeue", &["--noheader"]).trim().is_empty());
    assert_eq!(running(), 0);

    // Finalists are run in a job too.
    let finals = sweep.replace("count: 0, seeds: 2", "count: 2, seeds: 1");
    std::fs::write(folder.join("s.yaml"), format!("{finals}{executor}")).unwrap();
    let output = sinter_command(folder, &["sweep", "s.yaml", "--out", "rough"]).env("SLURM_CONF", &conf).output().unwrap();
    assert!(output.status.success() && said(&output).contains("finalists, on the test split"), "{}", said(&output));
    assert!(folder.join("rough/sweeps/sizes/finals.json").is_file() && folder.join("rough/sweeps/sizes/sweep.html").is_file());

    // A queue that refuses says why, and nothing is lost.
    let refused = format!("{}{}", sweep.replace("trials: 10", "trials: 20"), executor.replace("test", "nowhere"));
    std::fs::write(folder.join("s.yaml"), refused).unwrap();
    let output = sinter_command(folder, &["sweep", "s.yaml", "--out", "rough"]).env("SLURM_CONF", &conf).output().unwrap();
    assert!(
        output.status.code() == Some(2) && said(&output).contains("sbatch") && said(&output).contains("partition"),
        "{}",
        said(&output)
    );
}

/// Without Slurm on the machine the error says what is missing, before anything is tried.
#[test]
fn a_cluster_that_is_not_there_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &format!("{SWEEP}executor: slurm\n"));
    let output = sinter_command(folder, &["sweep", "s.yaml"]).env("PATH", "/nowhere").output().unwrap();
    assert!(output.status.code() == Some(2) && said(&output).contains("`executor: slurm` wants `squeue`"), "{}", said(&output));
    std::fs::write(folder.join("s.yaml"), format!("{SWEEP}executor: {{ slurm: {{ time: 14-0 }} }}\n")).unwrap();
    let output = sinter(folder, &["sweep", "s.yaml"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("90m, 12h or 14d"), "{}", said(&output));
}
