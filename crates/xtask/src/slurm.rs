//! A cluster of one node on this machine, without systemd: Slurm as Debian has it, for tests of sweeps on a cluster. As root.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::repository::root;
use crate::{setup, shell};

/// How long the node may take to say that it is idle.
const PATIENCE: Duration = Duration::from_secs(60);

fn folder() -> PathBuf {
    root().join("target/slurm")
}

fn configuration(folder: &Path, host: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        "ClusterName=sinter\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nAuthType=auth/munge\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nJobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
         MpiDefault=none\nReturnToService=2\nMinJobAge=5\nKillWait=5\nStateSaveLocation={}\nSlurmdSpoolDir={}\nSlurmctldPidFile={}\nSlurmdPidFile={}\n\
         SlurmctldLogFile={}\nSlurmdLogFile={}\nNodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN\nPartitionName=test Nodes={host} Default=YES MaxTime=60 State=UP\n",
        at("state"),
        at("spool"),
        at("slurmctld.pid"),
        at("slurmd.pid"),
        at("slurmctld.log"),
        at("slurmd.log"),
    )
}

/// Starts the cluster; tells what to export.
pub fn up() -> Result<(), String> {
    if shell::output("which", &["sbatch", "munged"], &root()).is_err() {
        setup::packages(&["slurm-wlm", "munge"])?;
    }
    let (root, folder) = (root(), folder());
    let io = |e: std::io::Error| format!("{}: {e}", folder.display());
    for inner in ["state", "spool"] {
        std::fs::create_dir_all(folder.join(inner)).map_err(io)?;
    }
    let host = shell::output("hostname", &["--short"], &root)?.trim().to_string();
    let conf = folder.join("slurm.conf");
    std::fs::write(&conf, configuration(&folder, &host)).map_err(io)?;
    let conf = conf.display().to_string();
    if shell::output("munge", &["--no-input"], &root).is_err() {
        for place in ["/run/munge", "/var/log/munge", "/var/lib/munge"] {
            shell::run("install", &["-d", "-o", "munge", "-g", "munge", "-m", "755", place], &root)?;
        }
        shell::run("runuser", &["-u", "munge", "--", "munged", "--force"], &root)?;
    }
    for daemon in ["slurmctld", "slurmd"] {
        if !runs(daemon) {
            shell::run(daemon, &["-f", &conf], &root)?;
        }
    }
    let began = Instant::now();
    loop {
        let state = std::process::Command::new("sinfo").args(["--noheader", "--format=%T"]).env("SLURM_CONF", &conf).output();
        if state.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).trim() == "idle") {
            println!("a cluster of one node is up:\n  export SLURM_CONF={conf}");
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(folder.join("slurmctld.log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(5).collect();
            return Err(format!("the node is not idle after a minute; slurmctld.log ends:\n{}", end.join("\n")));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The process of a daemon, by its file.
fn process(daemon: &str) -> Option<String> {
    std::fs::read_to_string(folder().join(format!("{daemon}.pid"))).ok().map(|text| text.trim().to_string())
}

fn runs(daemon: &str) -> bool {
    process(daemon).is_some_and(|id| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == daemon))
}

/// Stops the cluster and forgets it; munge goes on, others may use it.
pub fn down() -> Result<(), String> {
    for daemon in ["slurmd", "slurmctld"] {
        if let Some(id) = process(daemon).filter(|_| runs(daemon)) {
            shell::run("kill", &[&id], &root())?;
            let began = Instant::now();
            while runs(daemon) && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    match std::fs::remove_dir_all(folder()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", folder().display())),
        _ => Ok(()),
    }
}
