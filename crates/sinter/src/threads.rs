//! Threads: as many as there are cores or as the user says, in libtorch and in our own loops alike, and none that spins while it waits.

use std::process::Command;

/// What libgomp is told: how often a waiting thread looks before it sleeps. By default it looks for milliseconds, and two runs on one
/// machine then take seven times as long each; with a thousand looks two take twice as long, and one as long as ever.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// Starts the program again with [`SPIN`] set, since libgomp reads it before `main`. Returns where the user chose otherwise, where it is
/// set already, and where libtorch comes with another runtime.
pub fn stop_spinning() {
    let chosen = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some());
    if chosen || !cfg!(target_os = "linux") {
        return;
    }
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt;
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_else(|| program.clone().into_os_string());
        let failed = Command::new(&program).arg0(name).args(args).env(SPIN.0, SPIN.1).exec();
        tracing::warn!("threads will spin while they wait, which slows other runs on this machine: {failed}");
    }
}

/// Gives our own loops as many threads as libtorch has (`OMP_NUM_THREADS`, else one a core). The two take turns, so together they never
/// run on more. `RAYON_NUM_THREADS` wins.
pub fn share() {
    if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return;
    }
    let count = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(count).build_global() {
        tracing::warn!("threads of our own loops stay as they are: {error}");
    }
}
