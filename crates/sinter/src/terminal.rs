//! The listener at the terminal: a progress bar where there is one, plain lines elsewhere, JSON on demand.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sinter_model::Bytes;
use sinter_train::{Event, Probe};

/// Tells events to the user.
pub struct Listener {
    mode: Mode,
}

enum Mode {
    Quiet,
    Json,
    Plain,
    Bar(ProgressBar),
}

impl Listener {
    /// Bars on a terminal, plain lines elsewhere, unless the user asks for less or for JSON.
    pub fn new(quiet: bool, json: bool) -> Self {
        let mode = match (quiet, json) {
            (true, _) => Mode::Quiet,
            (_, true) => Mode::Json,
            _ if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new(0);
                let style = ProgressStyle::with_template("  {spinner} {msg} {wide_bar} {pos}/{len}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.enable_steady_tick(Duration::from_millis(200));
                Mode::Bar(bar)
            }
            _ => Mode::Plain,
        };
        Self { mode }
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
        if let Mode::Json = self.mode {
            print(&serde_json::to_string(event).unwrap_or_default());
            return;
        }
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

/// A line on standard output. A reader that has gone away is no reason to stop a run.
fn print(line: &str) {
    let _gone = writeln!(std::io::stdout(), "{line}");
}
