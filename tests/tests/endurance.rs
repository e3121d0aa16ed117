//! Runs that are killed at any moment, and runs side by side: too long for every landing, a few rounds of each there.
//! `SINTER_ROUNDS=200 cargo test -p sinter-tests --test endurance` is the whole of it.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use sinter_fixtures::{ALL_STAGES, figures, sinter, sinter_command, write_bars, write_pipeline};
use sinter_report::RunRecord;

/// How often: a few times, unless somebody asks for more.
fn rounds(default: usize) -> usize {
    std::env::var("SINTER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// What a run leaves: its figures and its packed file.
fn left(out: &Path) -> (String, Vec<u8>) {
    let runs: Vec<PathBuf> =
        std::fs::read_dir(out.join("all")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    let [run] = &runs[..] else { panic!("one run, not {runs:?}") };
    let figures = format!("{:?}", figures(&RunRecord::read(run).unwrap()));
    (figures, std::fs::read(run.join("artifacts/model.sinter")).unwrap())
}

/// No half-written file may lie anywhere.
fn nothing_half_written(folder: &Path, when: &str) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        let path = entry.path();
        assert!(!path.to_string_lossy().contains(".part"), "{when}: {} was left", path.display());
        if path.is_dir() {
            nothing_half_written(&path, when);
        }
    }
}

fn prepare(folder: &Path) {
    write_bars(folder, 600, 200);
    write_pipeline(folder, "all", ALL_STAGES);
}

fn start(folder: &Path, out: &str) -> Child {
    sinter_command(folder, &["run", "all.yaml", "--out", out, "--quiet"]).spawn().unwrap()
}

#[test]
fn a_run_killed_at_any_moment_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let started = Instant::now();
    let calm = sinter(folder.path(), &["run", "all.yaml", "--out", "calm", "--quiet"]);
    assert!(calm.status.success(), "{}", String::from_utf8_lossy(&calm.stderr));
    let length = started.elapsed();
    let wanted = left(&folder.path().join("calm"));
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..rounds(2) {
        let moment = length.mul_f64(random.f64());
        let mut child = start(folder.path(), "rough");
        std::thread::sleep(moment);
        // One that ended already counts too.
        let _ended = child.kill();
        child.wait().unwrap();
        let resumed = sinter(folder.path(), &["run", "all.yaml", "--out", "rough", "--quiet"]);
        let when = format!("round {round}, killed after {moment:?} of {length:?}");
        assert!(resumed.status.success(), "{when}: {}", String::from_utf8_lossy(&resumed.stderr));
        let rough = folder.path().join("rough");
        assert!(left(&rough) == wanted, "{when}: another result: {} against {}", left(&rough).0, wanted.0);
        nothing_half_written(&rough, &when);
        std::fs::remove_dir_all(&rough).unwrap();
    }
}

#[test]
fn four_runs_at_once_agree() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let calm = sinter(folder.path(), &["run", "all.yaml", "--out", "calm", "--quiet"]);
    assert!(calm.status.success(), "{}", String::from_utf8_lossy(&calm.stderr));
    let wanted = left(&folder.path().join("calm"));
    for round in 0..rounds(4).div_ceil(4) {
        let children: Vec<Child> = (0..4).map(|_| start(folder.path(), "same")).collect();
        let deadline = Instant::now() + Duration::from_secs(600);
        for mut child in children {
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if Instant::now() > deadline => panic!("round {round}: a run hangs"),
                    None => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            assert!(status.success(), "round {round}: {status}");
        }
        let same = folder.path().join("same");
        assert!(left(&same) == wanted, "round {round}: another result");
        nothing_half_written(&same, &format!("round {round}"));
        std::fs::remove_dir_all(&same).unwrap();
    }
}
