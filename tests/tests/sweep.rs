//! Many recipes of one pipeline: tried, stopped, gone on with, side by side, and compared.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use sinter_fixtures::sweeps::{STAGES, SWEEP, assert_same, calm, found, prepare, ran, said, status};
use sinter_fixtures::{sinter, sinter_command, write_pipeline};

#[test]
fn a_sweep_tries_chooses_and_compares() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, SWEEP);
    let text = ran(folder, &["s.yaml"]);
    assert!(text.contains("no other is better") && text.contains("finalists, on the test split"), "{text}");
    assert!(text.contains("can't be told apart") || text.contains("is truly"), "{text}");
    let state = status(folder, "reports");
    assert_eq!((&state["states"]["done"], &state["states"]["failed"]), (&8.into(), &0.into()), "{state}");
    for trial in state["trials"].as_array().unwrap() {
        let (figures, recipe) = (&trial["figures"], trial["recipe"].as_object().unwrap());
        for name in ["quality", "packed", "lost", "macs", "nonzero", "energy", "flash", "ram"] {
            assert!(figures[name].is_number(), "{name}: {figures}");
        }
        let clustered = recipe["stages.cluster"] == "on";
        assert_eq!(recipe.contains_key("stages.cluster.centroids"), clustered, "{recipe:?}");
    }
    // The first stage is the same in all: it was done once.
    let cache = said(&sinter(folder, &["cache", "list"]));
    let trained = cache.lines().filter(|line| line.contains(" stage ") && line.contains("1-train")).count();
    // Twice: the finalists have a second seed.
    assert_eq!(trained, 2, "{cache}");
    let best: Value = serde_json::from_str(&ran(folder, &["best", "s.yaml", "--json"])).unwrap();
    let finals = best["finals"]["finals"].as_array().unwrap();
    assert_eq!(finals.len(), 2);
    assert!(finals.iter().all(|f| f["runs"].as_array().unwrap().len() == 2), "{best}");
    for run in finals.iter().flat_map(|f| f["runs"].as_array().unwrap()) {
        assert!(folder.join(run["folder"].as_str().unwrap()).join("report.html").is_file(), "{run}");
    }
    // The page: all trials, the finalists' with a way to their reports, and the same values as a file.
    let place = folder.join("reports/sweeps/sizes");
    let page = std::fs::read_to_string(place.join("sweep.html")).unwrap();
    assert!(page.contains("8 of 8 recipes tried") && page.contains("Finalists, on the test split"), "{}", &page[..2000]);
    let links: Vec<&str> = page.split("<a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 2, "{links:?}");
    assert!(links.iter().all(|link| place.join(link).is_file()), "{links:?}");
    let mut values = csv::Reader::from_path(place.join("sweep.csv")).unwrap();
    let column = values.headers().unwrap().iter().position(|n| n == "packed").unwrap();
    let mut sizes: Vec<f64> = values.records().map(|r| r.unwrap()[column].parse().unwrap()).collect();
    let mut wanted: Vec<f64> = found(folder, "reports").iter().map(|t| t.2["packed"].as_f64().unwrap()).collect();
    sizes.sort_by(f64::total_cmp);
    wanted.sort_by(f64::total_cmp);
    assert_eq!(sizes, wanted);
    let standing = said(&sinter(folder, &["status"]));
    assert!(standing.contains("sweep sizes: 8 trials over, finalists compared"), "{standing}");
    // Nothing is left to try: the same command does nothing again, and finds the same.
    let before = found(folder, "reports");
    ran(folder, &["s.yaml"]);
    assert_eq!(found(folder, "reports"), before);

    // A table of all trials.
    for file in ["t.csv", "t.parquet"] {
        ran(folder, &["export", "s.yaml", "-o", file]);
    }
    let mut table = csv::Reader::from_path(folder.join("t.csv")).unwrap();
    let names = table.headers().unwrap().clone();
    assert!(names.iter().any(|n| n == "stages.prune.unstructured.sparsity") && names.iter().any(|n| n == "packed"), "{names:?}");
    assert_eq!(table.records().count(), 8);
    assert_eq!(&std::fs::read(folder.join("t.parquet")).unwrap()[..4], b"PAR1");

    // A recipe of one's own, and one that is none.
    let own = ["add", "s.yaml", "--set", "stages.cluster=off", "--set", "stages.prune.unstructured.sparsity=45%"];
    ran(folder, &own);
    let none = sinter(folder, &["sweep", "add", "s.yaml", "--set", "stages.cluster=off"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("from 40% to 95%"), "{}", said(&none));
    assert!(ran(folder, &own).contains("this recipe is trial 9"));
    let between = own.map(|word| if word.ends_with("45%") { "stages.prune.unstructured.sparsity=47%" } else { word });
    let between = sinter(folder, &[&["sweep"][..], &between].concat());
    assert!(between.status.code() == Some(2) && said(&between).contains("never 47%; next to it lies 45%"), "{}", said(&between));
    ran(folder, &["s.yaml", "--quiet"]);
    let all = found(folder, "reports");
    assert_eq!((all.len(), &all[8].1), (9, &"done".into()));

    // Another space: what lies outside is kept apart, and others are tried.
    std::fs::write(
        folder.join("s.yaml"),
        SWEEP.replace("[4, 8, 16]", "[32]").replace("trials: 8", "trials: 3").replace("[on, off]", "[on]"),
    )
    .unwrap();
    let apart = ran(folder, &["s.yaml"]);
    assert!(apart.contains("trial 10 ") || apart.contains("trial 12"), "{apart}");
    let now = status(folder, "reports");
    assert_eq!((&now["outside"], &now["states"]["done"]), (&9.into(), &3.into()), "{now}");
    assert!(ran(folder, &["status", "s.yaml"]).contains("3 of 3 tried; 3 done"));
    let best: Value = serde_json::from_str(&ran(folder, &["best", "s.yaml", "--json"])).unwrap();
    assert!(best["best"].as_array().unwrap().iter().all(|t| t["id"].as_i64().unwrap() > 9), "{best}");
    // Another pipeline: what was found holds for the old one.
    write_pipeline(folder, "p", &STAGES.replace("epochs: 2", "epochs: 1"));
    let other = sinter(folder, &["sweep", "s.yaml"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).contains("not what this sweep was begun with"), "{}", said(&other));
}

#[test]
fn workers_that_are_killed_lose_nothing_and_do_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_, wanted) = calm(folder);
    // Two workers; one is killed when it has begun something, and so is what started them. Then all goes on.
    let mut driver = sinter_command(folder, &["sweep", "s.yaml", "--out", "rough", "--workers", "2", "--json"]);
    let mut driver = driver.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = |parent: u32| {
        let output = std::process::Command::new("pgrep").args(["-P", &parent.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|l| l.trim().parse::<u32>().ok()).collect::<Vec<_>>()
    };
    let begun = || folder.join("rough/sweeps/sizes/sweep.db").is_file() && status(folder, "rough")["states"]["running"] == 2;
    let kill = |process: u32| std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !begun() {
        assert!(std::time::Instant::now() < deadline, "nothing begins");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let workers = children(driver.id());
    assert_eq!(workers.len(), 2, "{workers:?}");
    kill(workers[0]);
    let told =
        BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok).find(|l| l.contains("ended (signal: 9"));
    assert!(told.is_some_and(|line| line.contains("given to others")));
    let workers = children(driver.id());
    kill(driver.id());
    driver.wait().unwrap();
    for worker in workers {
        kill(worker);
    }
    ran(folder, &["s.yaml", "--out", "rough", "--workers", "2"]);
    let state = status(folder, "rough");
    assert_eq!(
        (&state["states"]["done"], &state["states"]["running"], &state["states"]["waiting"]),
        (&10.into(), &0.into(), &0.into()),
        "{state}"
    );
    // Random recipes follow from seed and number alone, so the same were tried, each once, with the same figures.
    assert_same(found(folder, "rough"), wanted);
}

/// Ctrl-C puts a trial back, which counts as no try; the next run takes it up where it was.
#[test]
fn a_sweep_that_is_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &SWEEP.replace("count: 2", "count: 0").replace("trials: 8", "trials: 2"));
    write_pipeline(folder, "p", &STAGES.replace("train: { epochs: 2 }", "train: { epochs: 300 }"));
    ran(folder, &["s.yaml", "--out", "calm"]);
    for workers in ["1", "2"] {
        let out = format!("rough-{workers}");
        let mut sweep = sinter_command(folder, &["sweep", "s.yaml", "--out", &out, "--workers", workers, "--json"]);
        let child = sweep.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let running =
            || folder.join(&out).join("sweeps/sizes/sweep.db").is_file() && status(folder, &out)["states"]["running"] != 0;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while !running() {
            assert!(std::time::Instant::now() < deadline, "nothing begins");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // Well into its training.
        std::thread::sleep(std::time::Duration::from_millis(700));
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        let state = status(folder, &out);
        assert_eq!((&state["states"]["running"], &state["states"]["failed"]), (&0.into(), &0.into()), "{state}");
        assert!(state["trials"].as_array().unwrap().iter().all(|t| t["tries"] == 0), "{state}");
        ran(folder, &["s.yaml", "--out", &out]);
        assert_eq!(found(folder, &out), found(folder, "calm"));
        assert!(status(folder, &out)["trials"].as_array().unwrap().iter().all(|t| t["tries"] == 1));
    }
}

#[test]
fn trials_are_stopped_early_and_failures_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sweep = "name: rates\npipeline: p.yaml\nspace:\n  stages.train.lr: [1e-6, 1e-5, 1e-3, 3e-3, 1e30]\n  stages.train.optimizer: [adam, sgd]\n\
                 objectives: [quality]\nsampler: grid\ntrials: 10\nstop: { asha: { least: 1, factor: 2 } }\nfinalists: { count: 0 }\n";
    prepare(folder, sweep);
    write_pipeline(folder, "p", "stages:\n  - train: { epochs: 6, optimizer: adam, lr: 1e-3 }\n");
    let text = ran(folder, &["s.yaml"]);
    let state = status(folder, "reports");
    let count = |name: &str| state["states"][name].as_u64().unwrap();
    assert_eq!(count("done") + count("stopped") + count("failed"), 10, "{state}");
    assert!(count("stopped") > 0 && count("failed") > 0 && count("done") > 0, "{text}");
    let trials = state["trials"].as_array().unwrap();
    let failed = trials.iter().find(|t| t["state"] == "failed").unwrap();
    assert!(failed["text"].as_str().unwrap().contains("diverged") && failed["tries"] == 3, "{failed}");
    let stopped = trials.iter().find(|t| t["state"] == "stopped").unwrap();
    assert!(stopped["text"].as_str().unwrap().contains("were better there"), "{stopped}");
    // What is stopped is not tried again.
    ran(folder, &["s.yaml"]);
    assert_eq!(status(folder, "reports")["trials"], state["trials"]);
}

/// A recipe whose quality is no number has failed; it neither ruins the store nor keeps to any limit.
#[test]
fn a_quality_that_is_no_number_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sweep = "name: kl\npipeline: p.yaml\nspace:\n  stages.train.lr: [1e-2, 1e15]\nobjectives: [quality]\nsampler: grid\ntrials: 2\n\
                 limits: { accuracy_drop: 50% }\nfinalists: { count: 0 }\n";
    prepare(folder, sweep);
    write_pipeline(folder, "p", "metric: kl\nstages:\n  - train: { epochs: 1, optimizer: sgd, batch_size: 600, lr: 1e-2 }\n");
    ran(folder, &["s.yaml"]);
    let state = status(folder, "reports");
    assert_eq!((&state["states"]["done"], &state["states"]["failed"]), (&1.into(), &1.into()), "{state}");
}

#[test]
fn wrong_sweeps_are_refused_where_they_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (from, to, wanted) in [
        ("trials: 8", "trials: 0", "s.yaml"),
        ("sampler: random", "sampler: tpf", "tpe"),
        ("[4, 8, 16]", "[]", "nothing to choose"),
        ("from: 40%, to: 95%", "from: 95%, to: 40%", "holds nothing"),
        ("stages.cluster.centroids", "stages.cluster.centroid", "did you mean `centroids`"),
        ("stages.prune", "stages.prone", "no stage is called `prone`"),
        ("pipeline: p.yaml", "pipeline: q.yaml", "q.yaml"),
        ("trials: 8", "stop: asha", "says nothing of other figures"),
        ("trials: 8", "objectives: [latency]", "nothing is known of latency"),
        ("limits: { accuracy_drop: 60% }", "limits: { latency: 5 ms }", "nothing is known of latency"),
        ("  stages.cluster: [on, off]", "  stages.cluster: [on, off]\n  stages.cluster: [off]", "duplicate"),
        ("count: 2", "count: 20", "too many to be told apart"),
        ("sampler: random", "sampler: grid\nobjectives: []", "nothing counts"),
        ("step: 5%", "log: false", ""),
    ] {
        prepare(folder, &SWEEP.replace(from, to));
        let output = sinter(folder, &["sweep", "status", "s.yaml"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{to}: {text}");
        assert!(text.contains(wanted), "{to}: {text}");
    }
    prepare(folder, &SWEEP.replace("sampler: random", "sampler: grid").replace("step: 5%", "log: false"));
    assert!(said(&sinter(folder, &["sweep", "s.yaml"])).contains("has none: give it a `step`"));
    prepare(folder, SWEEP);
    std::fs::write(folder.join("bars.yaml"), "name: bars\nsource: { idx: { folder: . } }\n").unwrap();
    let output = sinter(folder, &["sweep", "s.yaml"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("split: { validation: 10% }"), "{}", said(&output));
}
