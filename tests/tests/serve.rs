//! `sinter serve`: what is in the folder, live, read-only, and for this machine alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use sinter_fixtures::sinter_command;
use sinter_report::{RunRecord, StageRow, write_report};
use sinter_sweep::{Search, Space, State, Store, SweepConfig};
use sinter_task::Metric;

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = sinter_command(folder, &["serve", ".", "--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_string();
        Self { child, address }
    }

    /// Asks by some method; gives what is heard within a few seconds, or until `enough` is.
    fn ask(&self, request: &str, host: &str, enough: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0u8; 65_536]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => heard.extend_from_slice(&buffer[..n]),
            }
            if !enough.is_empty() && String::from_utf8_lossy(&heard).contains(enough) {
                break;
            }
        }
        String::from_utf8_lossy(&heard).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), &self.address, "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _over = self.child.wait();
    }
}

/// A run that is done, in `folder/NAME/hash`.
fn run(folder: &Path, name: &str) {
    let stage = |index: usize, stage: &str| StageRow {
        index,
        stage: stage.into(),
        packed_bytes: 1000,
        value: 0.9,
        ..StageRow::default()
    };
    let record = RunRecord {
        pipeline: name.into(),
        run: "hash".into(),
        started: "2026-01-01T00:00:00Z".into(),
        metric: Metric::share("accuracy"),
        summary: "<b>bold</b> summary".into(),
        stages: vec![stage(0, "0-input"), stage(1, "1-train")],
        ..RunRecord::default()
    };
    let place = folder.join(name).join("hash");
    write_report(&record, &place).unwrap();
    std::fs::write(place.join("run.json"), serde_json::to_vec(&record).unwrap()).unwrap();
}

#[test]
fn runs_and_sweeps_are_shown_as_they_go_on() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "first");
    std::fs::create_dir_all(folder.path().join(".cache")).unwrap();
    std::fs::write(folder.path().join(".cache/secret"), "secret").unwrap();
    let yaml =
        "name: tried\npipeline: p.yaml\nspace: { stages.prune.unstructured.sparsity: [60%, 80%] }\nlimits: { packed: 50 KB }\n";
    let config: SweepConfig = serde_yaml::from_str(yaml).unwrap();
    let space = Space::new(&config.space).unwrap();
    let path = folder.path().join("sweeps/tried/sweep.db");
    let store = Store::open(&path).unwrap();
    Search { config, space, metric: Metric::share("accuracy") }.keep(&store).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join(".cache/secret"), folder.path().join("first/hash/link.txt")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("out.txt"), "secret").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("first/out")).unwrap();
    run(elsewhere.path(), "foreign");
    #[cfg(unix)]
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
    let server = Server::start(folder.path());

    let home = server.get("/");
    assert!(home.contains("first/hash") && home.contains("/sweeps/tried"), "{home}");
    assert!(home.contains("&lt;b&gt;bold&lt;/b&gt; summary") && !home.contains("<b>bold"), "names are no markup");
    assert!(home.to_lowercase().contains("content-security-policy"), "{home}");
    let report = server.get("/runs/first/hash/report.html");
    assert!(report.starts_with("HTTP/1.1 200") && report.contains("text/html"), "{report}");
    assert!(server.get("/compare").contains("/runs/first/hash/report.html"));

    // What goes on is told to those who listen, and what a sweep finds while its page is asked for again.
    let listening = std::thread::scope(|scope| {
        let heard = scope.spawn(|| server.ask("GET /events", &server.address, "second/hash"));
        std::thread::sleep(Duration::from_millis(1500));
        run(folder.path(), "second");
        heard.join().unwrap()
    });
    assert!(listening.contains("event: seen") && listening.contains("second/hash"), "{listening}");
    let mut worker = Store::open(&path).unwrap();
    let recipe = |value: &str| [("stages.prune.unstructured.sparsity".to_string(), value.to_string())].into();
    worker.add("grid", &recipe("60%"), 1).unwrap();
    worker.add("grid", &recipe("80%"), 1).unwrap();
    let mut take = || worker.take("me", Duration::from_secs(60), &|_| true, &mut |_| None).unwrap().unwrap().id;
    let (first, _second) = (take(), take());
    let figures = [("quality".to_string(), 0.875), ("packed".to_string(), 40_000.0)].into();
    worker.end((first, "me"), State::Done, (&figures, 3.0), "").unwrap();
    let sweep = server.get("/sweeps/tried");
    assert!(
        sweep.contains("1 of 40 recipes tried, 1 running") && sweep.contains("87.50 %") && sweep.contains("39.1 KiB"),
        "{sweep}"
    );

    // Reading alone, within the folder, and under names of its own.
    for path in [
        "/runs/.cache/secret",
        "/runs/%2ecache/secret",
        "/runs/../Cargo.toml",
        "/runs/%2e%2e/x",
        "/sweeps/none",
        "/runs/first/out/out.txt",
        "/runs/first/hash/link.txt",
        "/sweeps/..%2ftried",
        "/nowhere",
    ] {
        let answer = server.get(path);
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("secret"), "{path}: {answer}");
    }
    assert!(server.ask("POST /", &server.address, "").starts_with("HTTP/1.1 405"));
    assert!(server.ask("GET /", "elsewhere.example", "").starts_with("HTTP/1.1 403"));
    assert!(!home.contains("foreign") && !server.get("/compare").contains("foreign"));
    assert!(!server.get("/compare?run=linked/foreign/hash").contains("foreign hash"));
    let picture = format!("{}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors", server.address);
    assert!(server.ask("GET /compare", &picture, "").starts_with("HTTP/1.1 403"));
    assert!(server.get("/compare?run=../../etc").starts_with("HTTP/1.1 200"), "a run elsewhere is as good as none");
}

#[test]
fn what_can_not_be_served_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let failed = |args: &[&str]| {
        let output = sinter_command(folder.path(), &[&["serve"][..], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nowhere = folder.path().join("nowhere").display().to_string();
    assert!(failed(&[&nowhere]).contains("is no folder"));
    let server = Server::start(folder.path());
    let port = server.address.rsplit(':').next().unwrap().to_string();
    let taken = failed(&[&folder.path().display().to_string(), "--port", &port]);
    assert!(taken.contains(&server.address) && taken.contains("--port"), "{taken}");
}
