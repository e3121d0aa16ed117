//! What the program does when it is told to stop, and when a file may grow no more.

use std::io::Write;
use std::path::PathBuf;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A limit on the size of files, which shells call `ulimit -f`.
const SIGXFSZ: i32 = 25;

/// Lets writes beyond the shell's limit on file sizes fail with an error, which names the file, where they would kill the program.
pub fn outlive_file_limits() {
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, seen) {
        tracing::warn!("a limit on file sizes will end the program without a word: {error}");
    }
}

/// On SIGINT and SIGTERM: says what is kept and how to go on, then leaves with 128 and the signal's number. Files appear whole or not at all, so
/// there is nothing to tidy up.
pub fn say_what_is_kept(out: PathBuf) {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return tracing::warn!("an interrupted run will not say what is kept: {error}"),
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let cache = out.join(".cache");
            let kept = cache.display();
            // Whoever reads may be gone, and threads of libraries still compute: nothing here may wait for either.
            let _gone = writeln!(
                std::io::stderr(),
                "\nstopped: every stage that was done is kept in {kept}; the same command goes on behind it"
            );
            signal_hook::low_level::exit(128 + signal);
        }
    });
}
