//! A wall around code that reads or computes what came from outside: a panic becomes an error.
//!
//! Sizes and attributes are checked where they are read. What slips through, here or in a library that we call, shall still not end the program
//! without a word.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Panics that became errors. Each is a check that is missing further in.
static CAUGHT: AtomicUsize = AtomicUsize::new(0);

/// How many panics became errors since the program began; fuzzing counts them as faults.
pub fn panics_caught() -> usize {
    CAUGHT.load(Ordering::Relaxed)
}

thread_local! {
    static GUARDED: Cell<u32> = const { Cell::new(0) };
    /// Where the last guarded panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does the work; a panic in it becomes what it said. Nothing is printed then. State that the work was changing is not to be used afterwards.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match GUARDED.get() {
            0 => before(info),
            _ => PLACE.set(info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()))),
        }));
    });
    GUARDED.set(GUARDED.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(GUARDED.get() - 1);
    done.map_err(|panic| {
        CAUGHT.fetch_add(1, Ordering::Relaxed);
        let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        said.unwrap_or_else(|| "it panicked".into()) + &PLACE.take()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| 3), Ok(3));
        let empty: Vec<u8> = vec![];
        assert!(guarded(|| empty[empty.len()]).unwrap_err().contains("out of bounds"));
        let nested = guarded(|| guarded(|| panic!("inner")).unwrap_err());
        assert!(nested.is_ok_and(|said| said.starts_with("inner at ") && said.contains("guard.rs:")));
    }
}
