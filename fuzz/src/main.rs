//! `sinter-fuzz [--minutes N | --cases N] [TARGET...]`: long runs, a process a batch, and a table of what was found.
//!
//! A batch runs in a process of its own, so that a file that aborts, hangs or takes all memory ends no more than that; the parent sees which file it
//! was and goes on behind it. What was found lies in `target/fuzz/TARGET/`; files of faults that are mended move to `fuzz/corpus/TARGET/`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use sinter_fuzz::{TARGETS, Target, panics};
use sinter_model::{Bytes, set_memory_limit};

/// Files a process.
const BATCH: u64 = 500;
/// Longer than this is a hang.
const HANG: Duration = Duration::from_secs(10);
/// What one tensor, sample or file may take, and what the process may.
const LIMIT: Bytes = Bytes(256 << 20);
const PROCESS: u64 = 6 << 30;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, from, count] = &args[..]
        && word == "--batch"
    {
        return batch(name, from.parse().unwrap_or(0), count.parse().unwrap_or(0));
    }
    let (mut minutes, mut cases, mut names) = (None, None, Vec::new());
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--minutes" => minutes = rest.next().and_then(|n| n.parse::<f64>().ok()),
            "--cases" => cases = rest.next().and_then(|n| n.parse::<u64>().ok()),
            _ => names.push(arg),
        }
    }
    let chosen: Vec<&Target> = TARGETS.iter().filter(|t| names.is_empty() || names.iter().any(|n| n == t.name)).collect();
    if chosen.is_empty() {
        let all: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        eprintln!("error: no such target; there are {}", all.join(", "));
        return ExitCode::FAILURE;
    }
    let share = minutes.map(|m| Duration::from_secs_f64(m * 60.0 / chosen.len() as f64));
    let cases = cases.unwrap_or(if share.is_some() { u64::MAX } else { 10_000 });
    let mut faults = 0;
    println!("| kind of file | mutations | panics | aborts | hangs above {} s | slowest | peak memory |", HANG.as_secs());
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for target in chosen {
        let found = hunt(target, cases, share);
        println!(
            "| {} | {} | {} | {} | {} | {:.2} s | {} |",
            target.name,
            found.cases,
            found.panics,
            found.aborts,
            found.hangs,
            found.slowest.as_secs_f64(),
            Bytes(found.memory)
        );
        faults += found.panics + found.aborts + found.hangs;
    }
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Found {
    cases: u64,
    panics: u64,
    aborts: u64,
    hangs: u64,
    slowest: Duration,
    memory: u64,
}

/// The bytes of a case: a seed of the target, changed as its number says.
fn make(target: &Target, seeds: &[Vec<u8>], case: u64) -> Vec<u8> {
    let mut state = case.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed;
    let mut random = || {
        // splitmix64 (Steele et al., 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let seed = &seeds[random() as usize % seeds.len().max(1)];
    let noise: Vec<u8> = (0..64).flat_map(|_| random().to_le_bytes()).collect();
    (target.mutate)(seed, &mut Unstructured::new(&noise)).unwrap_or_else(|_| seed.clone())
}

/// Runs cases in this process; says before each which it is, and after each what it took.
fn batch(name: &str, from: u64, count: u64) -> ExitCode {
    let Some(target) = TARGETS.iter().find(|t| t.name == name) else { return ExitCode::FAILURE };
    set_memory_limit(LIMIT);
    tch::set_num_threads(1);
    let limit = rustix::process::Rlimit { current: Some(PROCESS), maximum: Some(PROCESS) };
    let _limited = rustix::process::setrlimit(rustix::process::Resource::As, limit);
    let seeds = (target.seeds)();
    let mut out = std::io::stdout().lock();
    for case in from..from + count {
        let _said = writeln!(out, "begin {case}");
        let _said = out.flush();
        let folder = match tempfile::tempdir() {
            Ok(folder) => folder,
            Err(error) => panic!("no scratch folder: {error}"),
        };
        let bytes = make(target, &seeds, case);
        let (before, started) = (panics(), Instant::now());
        (target.run)(&bytes, folder.path());
        let caught = panics() - before;
        let _said = writeln!(out, "end {case} {} {caught}", started.elapsed().as_micros());
    }
    let _said = writeln!(out, "peak {}", peak());
    ExitCode::SUCCESS
}

/// The most memory that this process held.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

fn hunt(target: &Target, cases: u64, share: Option<Duration>) -> Found {
    let (mut found, started) = (Found::default(), Instant::now());
    let seeds = (target.seeds)();
    let mut next = 0;
    while next < cases && share.is_none_or(|s| started.elapsed() < s) {
        let count = BATCH.min(cases - next);
        next = run(target, &seeds, next, count, &mut found);
    }
    found
}

/// Runs a batch in a process; returns the case to go on with.
fn run(target: &Target, seeds: &[Vec<u8>], from: u64, count: u64, found: &mut Found) -> u64 {
    let program = std::env::current_exe().unwrap_or_else(|e| panic!("{e}"));
    let child = Command::new(program)
        .args(["--batch", target.name, &from.to_string(), &count.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("the batch did not start: {e}"));
    let (send, lines) = channel();
    let output = child.stdout.take();
    std::thread::spawn(move || {
        let lines = output.into_iter().flat_map(|o| BufReader::new(o).lines()).map_while(Result::ok);
        lines.for_each(|line| drop(send.send(line)));
    });
    let (mut current, mut began) = (None, Instant::now());
    let keep = |case: u64, what: &str| {
        let folder = PathBuf::from("target/fuzz").join(target.name);
        let name = folder.join(format!("{what}-{case}"));
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&name, make(target, seeds, case)));
        eprintln!("{what}: {}{}", name.display(), kept.err().map_or_else(String::new, |e| format!(" ({e})")));
    };
    loop {
        match lines.recv_timeout(HANG) {
            Ok(line) => {
                let words: Vec<&str> = line.split(' ').collect();
                let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
                match words[0] {
                    "begin" => (current, began) = (Some(number(1)), Instant::now()),
                    "end" => {
                        found.cases += 1;
                        found.slowest = found.slowest.max(Duration::from_micros(number(2)));
                        if number(3) > 0 {
                            found.panics += 1;
                            keep(number(1), "panic");
                        }
                        current = None;
                    }
                    "peak" => found.memory = found.memory.max(number(1)),
                    _ => {}
                }
            }
            Err(RecvTimeoutError::Timeout) if current.is_none() || began.elapsed() < HANG => {}
            Err(error) => {
                let _killed = child.kill();
                let status = child.wait();
                let Some(case) = current else { return from + count };
                found.cases += 1;
                if error == RecvTimeoutError::Timeout {
                    found.hangs += 1;
                    found.slowest = found.slowest.max(HANG);
                    keep(case, "hang");
                } else if status.is_ok_and(|s| s.code() == Some(101)) {
                    found.panics += 1;
                    keep(case, "panic");
                } else {
                    found.aborts += 1;
                    keep(case, "abort");
                }
                return case + 1;
            }
        }
    }
}
