//! `sinter init`: a first pipeline, with a question only where nobody but the user knows.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use sinter_pipeline::{FORMS, Goal, InitError, Request, draft};

use crate::answer::{Failure, say, wrong};
use crate::args::InitArgs;

/// Target files that lie beside the program or in the current folder, by name.
fn targets() -> Vec<(String, PathBuf)> {
    let program = std::env::current_exe().ok();
    let above = program.iter().flat_map(|p| p.ancestors().skip(1).take(4)).map(Path::to_path_buf);
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for folder in std::iter::once(PathBuf::new()).chain(above) {
        let entries = std::fs::read_dir(folder.join("configs/targets")).into_iter().flatten().flatten();
        for path in entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if found.iter().all(|(n, _)| *n != name) {
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

/// A target by its name or its file.
fn target(text: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(text);
    if path.is_file() {
        return Ok(path);
    }
    let all = targets();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let found = all.iter().find(|(name, _)| name == text).map(|(_, path)| path.clone());
    found.ok_or_else(|| match names.is_empty() {
        true => wrong(format!(
            "there is no target {text}\n  help: give the path of a target file; `sinter schema target` says what it holds"
        )),
        false => {
            wrong(format!("there is no target {text}\n  help: give the path of a target file, or one of {}", names.join(", ")))
        }
    })
}

/// Asks on the terminal; nothing but Enter is no answer.
fn ask(question: &str) -> Option<String> {
    eprint!("{question} ");
    std::io::stderr().flush().ok()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim().to_string()).filter(|a| !a.is_empty())
}

pub fn run(args: &InitArgs) -> Result<(), Failure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let questions = |question: &str| if terminal { ask(question) } else { None };
    let data = args.data.clone().or_else(|| questions(&format!("What holds samples for it ({FORMS})?")).map(PathBuf::from));
    let Some(data) = data else {
        return Err(wrong(format!("nobody says what holds samples for the model\n  help: `--data PATH`: {FORMS}")));
    };
    let names: Vec<String> = targets().into_iter().map(|(name, _)| name).collect();
    let chosen = args
        .target
        .clone()
        .or_else(|| questions(&format!("What is it for ({}; Enter for nothing in particular)?", names.join(", "))));
    let target = chosen.as_deref().map(target).transpose()?;
    let goal = match args.goal {
        Some(goal) => goal,
        None => {
            let all: Vec<&str> = Goal::ALL.iter().map(|g| g.name()).collect();
            match questions(&format!("What counts most ({}; Enter for {})?", all.join(", "), Goal::default().name())) {
                Some(said) => Goal::named(&said).ok_or_else(|| wrong(format!("`{said}` is none of {}", all.join(", "))))?,
                None => Goal::default(),
            }
        }
    };
    // Names of folders hold dots that begin no ending: Qwen2.5-0.5B.
    let path = Path::new(&args.model);
    let whole = if path.is_dir() { path.canonicalize().unwrap_or_else(|_| path.to_path_buf()) } else { path.to_path_buf() };
    let stem = if path.is_file() { whole.file_stem() } else { whole.file_name() };
    let stem = stem.unwrap_or(std::ffi::OsStr::new("pipeline")).to_string_lossy().into_owned();
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.yaml")));
    let request = Request { model: args.model.clone(), data, target, goal, output: output.clone(), over: args.force };
    let told = |e: InitError| wrong(format!("{}\n  help: {}", e.message, e.help));
    let quiet = args.quiet;
    let draft = draft(&request, &|what| {
        if !quiet {
            eprintln!("· {what}");
        }
    })
    .map_err(told)?;
    draft.write().map_err(told)?;
    if quiet {
        return Ok(());
    }
    draft.said.iter().try_for_each(|line| say(line))?;
    let files: Vec<String> = draft.files.iter().map(|(path, _)| path.display().to_string()).collect();
    say(&format!("wrote {}", files.join(" and ")))?;
    say(&format!("next: sinter plan {0}; sinter data {0}; sinter run {0}", output.display()))
}
