//! The listener at the terminal: a progress bar where there is one, plain lines elsewhere, JSON on demand. Never silent for long.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sinter_model::Bytes;
use sinter_train::{Event, Probe};

/// After so long without a line the work is named again.
const SILENCE: Duration = Duration::from_secs(8);

/// Tells events to the user.
pub struct Listener {
    mode: Mode,
    state: Arc<Mutex<State>>,
    /// Reminds while work is silent; ends when it is dropped.
    reminder: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug, Clone)]
enum Mode {
    Quiet,
    Json,
    Plain,
    Bar(ProgressBar),
}

/// What was said last.
#[derive(Debug)]
struct State {
    said: Instant,
    stage: String,
    /// When the stage began.
    since: Instant,
    /// How far the work is that is under way.
    work: Option<(String, usize, usize)>,
}

/// Whether colours and moving lines are wanted: on a terminal that can, unless NO_COLOR says no.
pub fn is_rich() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    std::io::stderr().is_terminal() && !set("NO_COLOR") && !is_dumb()
}

/// Whether the terminal moves no cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Listener {
    /// Bars on a terminal, plain lines elsewhere, unless the user asks for less or for JSON.
    pub fn new(quiet: bool, json: bool) -> Self {
        let mode = match (quiet, json) {
            (true, _) => Mode::Quiet,
            (_, true) => Mode::Json,
            _ if std::io::stderr().is_terminal() && !is_dumb() => {
                let bar = ProgressBar::new(0);
                let style = ProgressStyle::with_template("  {spinner} {msg} {wide_bar} {pos}/{len}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.enable_steady_tick(Duration::from_millis(200));
                Mode::Bar(bar)
            }
            _ => Mode::Plain,
        };
        let now = Instant::now();
        let state = Arc::new(Mutex::new(State { said: now, stage: String::new(), since: now, work: None }));
        // A bar moves by itself.
        let reminder = matches!(mode, Mode::Json | Mode::Plain).then(|| remind(mode.clone(), state.clone()));
        Self { mode, state, reminder }
    }

    fn line(&self, text: &str) {
        match &self.mode {
            Mode::Quiet | Mode::Json => {}
            Mode::Plain => print(text),
            Mode::Bar(bar) => bar.suspend(|| print(text)),
        }
    }

    /// Takes one event.
    pub fn hear(&self, event: &Event) {
        // Whoever holds this prints, so lines never mix.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = matches!(event, Event::Progress { .. });
        match event {
            Event::StageStarted { stage, .. } => {
                *state = State { stage: stage.clone(), since: Instant::now(), work: None, ..*state };
            }
            Event::Progress { what, done, total } => state.work = Some((what.clone(), *done, *total)),
            Event::StageFinished { .. } => state.work = None,
            _ => {}
        }
        if !progress || matches!(self.mode, Mode::Json) {
            state.said = Instant::now();
        }
        if let Mode::Json = self.mode {
            print(&json_line(event));
        } else {
            self.tell(event);
        }
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::RunStarted { pipeline, stages, .. } => self.line(&format!("{pipeline}: {}", stages.join(" → "))),
            Event::StageStarted { stage, .. } => {
                if let Mode::Bar(bar) = &self.mode {
                    bar.set_message(stage.clone());
                    bar.set_length(0);
                }
                self.line(&format!("▸ {stage}"));
            }
            Event::StageCached { stage, .. } => self.line(&format!("✓ {stage} (from the cache)")),
            Event::StageResumed { at } => self.line(&format!("  goes on at {at}")),
            Event::StageKept { .. } => {}
            Event::Epoch { epoch, epochs, loss, metric, value, seconds } => {
                let value = value.map_or_else(String::new, |v| format!(", validation {metric} {v:.4}"));
                self.line(&format!("  epoch {epoch}/{epochs}: loss {loss:.4}{value} ({seconds:.1} s)"));
            }
            Event::Progress { what, done, total } => {
                if let Mode::Bar(bar) = &self.mode {
                    bar.set_message(what.clone());
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                }
            }
            // The report has the chart; one line a layer is enough here.
            Event::Sensitivity { layer, probe: Probe::Share, at, lost } if *at == 0.5 => {
                self.line(&format!("  {layer} alone loses {lost:.4} at {:.0} %", at * 100.0));
            }
            Event::Sensitivity { layer, probe: Probe::Bits, at, lost } if *at == 4.0 => {
                self.line(&format!("  {layer} alone loses {lost:.4} at {at} bits"));
            }
            Event::Sensitivity { .. } | Event::Range { .. } => {}
            Event::Note { text } => self.line(&format!("  {text}")),
            Event::StageFinished { stage, size, metric, value, seconds, .. } => {
                self.line(&format!("✓ {stage}: {} packed, {metric} {value:.4} ({seconds:.1} s)", Bytes(*size)));
            }
            Event::Verdict { text, met } => self.line(&format!("{} {text}", if *met { "✓" } else { "✗" })),
            Event::Artifact { path, bytes } => self.line(&format!("  {} ({})", path.display(), Bytes(*bytes))),
            Event::RunFinished { report, summary, seconds, .. } => {
                if let Mode::Bar(bar) = &self.mode {
                    bar.finish_and_clear();
                }
                self.line(&format!("{summary} ({seconds:.0} s)\nreport: {}", report.display()));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.reminder.take() {
            drop(stop);
            let _ended = thread.join();
        }
    }
}

/// Names the work again whenever nothing was said for a while.
fn remind(mode: Mode, state: Arc<Mutex<State>>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.said.elapsed() < SILENCE {
                continue;
            }
            state.said = Instant::now();
            let (what, done, total) = state.work.clone().unwrap_or_else(|| (state.stage.clone(), 0, 0));
            if matches!(mode, Mode::Json) {
                print(&json_line(&Event::Progress { what, done, total }));
            } else {
                let part = if total > 0 { format!(", {what} {done} of {total}") } else { String::new() };
                print(&format!("  … {}{part} ({} s)", state.stage, state.since.elapsed().as_secs()));
            }
        }
    });
    (stop, thread)
}

/// Of the lines that `--json` prints. Raised when what they hold changes its meaning or its name.
const VERSION: u32 = 1;

/// An event as a line: what it holds, when it was, and the version of the form.
pub fn json_line(event: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_value(event).unwrap_or_default();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("time".into(), jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into());
        fields.insert("version".into(), VERSION.into());
    }
    line.to_string()
}

/// A line on standard output. A reader that has gone away is no reason to stop a run.
fn print(line: &str) {
    let _gone = writeln!(std::io::stdout(), "{line}");
}
