//! What the program does when it is told to stop, and when a file may grow no more.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sinter_pipeline::Interrupt;

/// A limit on the size of files, which shells call `ulimit -f`.
const SIGXFSZ: i32 = 25;

/// Lets writes beyond the shell's limit on file sizes fail with an error, which names the file, where they would kill the program.
pub fn outlive_file_limits() {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, seen) {
        tracing::warn!("a limit on file sizes will end the program without a word: {error}");
    }
}

/// The signal that came last.
static LAST: AtomicI32 = AtomicI32::new(0);

/// On SIGINT and SIGTERM: training ends after its step, and how far it is is kept. Where nothing can end so, or at the second signal: says what is kept
/// and how to go on, then leaves with 128 and the signal's number. Files appear whole or not at all, so there is nothing to tidy up.
pub fn end_well(out: PathBuf, interrupt: Interrupt) {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return tracing::warn!("an interrupted run will not say what is kept: {error}"),
    };
    std::thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            LAST.store(signal, Ordering::SeqCst);
            // Whoever reads may be gone, and threads of libraries still compute: nothing here may wait for either.
            if count == 0 && interrupt.ask() {
                let _gone = writeln!(std::io::stderr(), "\nstopping after this step; once more stops at once");
                continue;
            }
            let _gone = writeln!(std::io::stderr(), "\nstopped: {}", kept(&out));
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

/// What a run that was stopped leaves.
pub fn kept(out: &Path) -> String {
    format!("all that was done is kept in {}; the same command, without --fresh, goes on behind it", out.join(".cache").display())
}

/// The exit code of a run that a signal stopped.
pub fn code() -> u8 {
    u8::try_from(128 + LAST.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
}
