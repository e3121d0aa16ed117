//! The user's wish to stop, on its way from a signal to the work that can end well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop, shared by whoever hears it and whoever heeds it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    wanted: AtomicBool,
    /// Whether work is under way that looks at the wish.
    heeded: AtomicBool,
}

impl Interrupt {
    /// Asks to stop. Gives whether somebody will, after keeping how far the work is.
    pub fn ask(&self) -> bool {
        self.0.wanted.store(true, Ordering::SeqCst);
        self.0.heeded.load(Ordering::SeqCst)
    }

    /// Whether somebody asked to stop.
    pub fn wanted(&self) -> bool {
        self.0.wanted.load(Ordering::SeqCst)
    }

    /// The same, asked by work that will stop.
    pub(crate) fn heed(&self) -> bool {
        self.0.heeded.store(true, Ordering::SeqCst);
        self.wanted()
    }

    /// That work is done.
    pub(crate) fn rest(&self) {
        self.0.heeded.store(false, Ordering::SeqCst);
    }
}
