//! What is served beside files.

use std::path::{Path, PathBuf};

use maud::{Markup, PreEscaped, html};
use sinter_pipeline::{Standing, State};
use sinter_report::{Comparison, address, compare_runs, find_runs, frame};
use sinter_sweep::{Finals, Search, Store};

use crate::guard::is_within;

/// Brings the first page up to date as things happen.
const HOME: &str = r#"
const at = document.getElementById('tables'), state = document.getElementById('state');
const heard = new EventSource('/events');
heard.addEventListener('seen', event => { const seen = JSON.parse(event.data); if (seen.tables && seen.tables !== at.dataset.last) { at.innerHTML = at.dataset.last = seen.tables; } });
heard.onopen = () => { state.textContent = 'live'; };
heard.onerror = () => { state.textContent = 'the server does not answer'; };
"#;

/// Loads a sweep's page again once more is known, unless the reader is busy in it. What was chosen and filtered is kept by the page.
const SWEEP: &str = r#"
const name = document.currentScript.dataset.sweep, state = document.getElementById('state');
let mark = null, due = false, moved = 0;
for (const kind of ['pointermove', 'keydown', 'wheel']) addEventListener(kind, () => { moved = Date.now(); }, {passive: true});
const heard = new EventSource('/events');
heard.addEventListener('seen', event => {
  const now = JSON.parse(event.data).sweeps[name];
  if (now === undefined) return;
  if (mark !== null && now !== mark) { due = true; state.textContent = 'there is more'; }
  mark = now;
});
heard.onopen = () => { state.textContent = 'live'; };
heard.onerror = () => { state.textContent = 'the server does not answer'; };
setInterval(() => { if (due && Date.now() - moved > 3000 && !['INPUT', 'SELECT'].includes(document.activeElement.tagName)) { due = false; location.reload(); } }, 1000);
"#;

/// The first page.
pub(crate) fn home(folder: &Path, tables: &str) -> String {
    let body = html! {
        header {
            h1 { "Sinter · " (folder.display()) }
            p.small { span #state aria-live="polite" { "as it was when the page was loaded" } }
        }
        main #tables { (PreEscaped(tables)) }
        script { (PreEscaped(HOME)) }
    };
    frame("Runs · Sinter", body)
}

/// The tables of runs and sweeps.
pub(crate) fn tables(folder: &Path, runs: &[Standing], sweeps: &[sinter_sweep::Standing]) -> Markup {
    let done = runs.iter().filter(|r| r.progress.state == State::Done).count();
    html! {
        @if !sweeps.is_empty() {
            h2 { "Sweeps" }
            div.scroll tabindex="0" role="region" aria-label="Sweeps" { table {
                thead { tr { th { "Sweep" } th.n { "Over" } th.n { "Running" } th.n { "Waiting" } th.n { "Failed" } } }
                tbody { @for s in sweeps { tr {
                    td { a href={ "/sweeps/" (encoded(Path::new(&s.name))) } { (s.name) } }
                    @for n in [s.over, s.running, s.waiting, s.failed] { td.n { (n) } }
                } } }
            } }
        }
        h2 { "Runs" }
        @if runs.is_empty() { p { "No run is here yet: " code { "sinter run" } " writes into this folder." } }
        @if done > 1 { p { a href="/compare" { "Compare the " (done) " that are done" } } }
        @if !runs.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Runs" { table {
                thead { tr { th { "Run" } th { "State" } th { "Where it stands" } th.n { "Loss" } th { "Begun" } } }
                // The youngest first.
                @let mut order: Vec<&Standing> = runs.iter().collect();
                @let () = order.sort_by(|a, b| b.progress.started.cmp(&a.progress.started));
                tbody { @for run in order { (row(folder, run)) } }
            } }
        }
    }
}

fn row(folder: &Path, run: &Standing) -> Markup {
    let place = run.folder.strip_prefix(folder).unwrap_or(&run.folder);
    let progress = &run.progress;
    let (done, running) = (progress.state == State::Done, progress.state == State::Running);
    let at = progress.stage.as_ref().and_then(|stage| progress.stages.iter().position(|s| s == stage));
    html! {
        tr {
            td { @if done { a href={ "/runs/" (encoded(place)) "/report.html" } { (place.display()) } } @else { (place.display()) } }
            td { (progress.state) @if running && run.silent_seconds.is_some_and(|s| s > 60) { br; small { "silent for " (run.silent_seconds.unwrap_or(0) / 60) " min" } } }
            td.wrap {
                @match (&progress.stage, done) {
                    (Some(stage), false) => {
                        (stage) @if let Some(at) = at { " (" (at + 1) " of " (progress.stages.len()) ")" }
                        @if let Some((what, done, of)) = &progress.work { br; progress value=(done) max=(of) aria-label=(what) {} " " small { (what) ", " (done) " of " (of) } }
                    }
                    _ => (progress.text),
                }
                @if !done && !running && !progress.text.is_empty() { br; small { (progress.text) } }
            }
            td.n { @if let Some(loss) = progress.loss { (format!("{loss:.4}")) } }
            td { (progress.started) }
        }
    }
}

/// A path as a link has it.
fn encoded(path: &Path) -> String {
    address(path).trim_start_matches("./").to_string()
}

/// Where the page of a run is on this server.
fn link(folder: &Path, run: &Path) -> Option<String> {
    // Finalists are named as they were where the sweep was started: what counts is NAME/HASH.
    let tail: PathBuf = run.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    let run = [run.to_path_buf(), folder.join(tail)].into_iter().find(|run| is_within(folder, &run.join("report.html")))?;
    let (run, folder) = (run.canonicalize().ok()?, folder.canonicalize().ok()?);
    Some(format!("/runs/{}/report.html", encoded(run.strip_prefix(folder).ok()?)))
}

/// The runs that are named, or all that are done, side by side.
pub(crate) fn compare(folder: &Path, wanted: &[String]) -> Result<String, String> {
    let folders: Vec<PathBuf> = match wanted.is_empty() {
        true => vec![folder.to_path_buf()],
        false => wanted.iter().map(|run| folder.join(run)).filter(|run| is_within(folder, run)).collect(),
    };
    let mut found = find_runs(&folders).map_err(|e| e.to_string())?;
    found.runs.retain(|run| is_within(folder, &run.folder));
    served(&compare_runs(&found, &|run| link(folder, &run.folder)), "")
}

/// A sweep as far as it is.
pub(crate) fn sweep(folder: &Path, name: &str) -> Result<String, String> {
    let path = sinter_sweep::Standing::store_path(folder, name);
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(format!("there is no sweep `{name}`"));
    }
    if !is_within(folder, &path) {
        return Err(format!("there is no sweep `{name}`"));
    }
    let store = Store::existing(&path).map_err(|e| e.to_string())?.ok_or_else(|| format!("there is no sweep `{name}`"))?;
    let search = Search::kept(&store).map_err(|e| e.to_string())?;
    let search = search.ok_or_else(|| {
        format!("sweep `{name}` does not say what it looks for: it was begun by another version of Sinter; `sinter sweep FILE` brings it up to date")
    })?;
    let finals = path.parent().and_then(Finals::read);
    let all = sinter_sweep::compare(&search, &store, finals.as_ref(), &|run| link(folder, run)).map_err(|e| e.to_string())?;
    served(&all, &html! { script data-sweep=(name) { (PreEscaped(SWEEP)) } }.into_string())
}

/// A comparison with a way back, and a script at its end.
fn served(all: &Comparison, script: &str) -> Result<String, String> {
    let page = all.page().map_err(|e| e.to_string())?;
    let back = "<header><p class=\"small\"><a href=\"/\">All runs</a> <span id=\"state\" aria-live=\"polite\"></span></p>";
    let page = page.replacen("<header>", back, 1);
    Ok(page.replacen("</body>", &format!("{script}</body>"), 1))
}
