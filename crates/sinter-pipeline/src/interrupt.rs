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
    /// Whose wish counts too.
    above: Option<Interrupt>,
}

impl Interrupt {
    /// Asks to stop. Gives whether somebody will, after keeping how far the work is.
    pub fn ask(&self) -> bool {
        self.0.wanted.store(true, Ordering::SeqCst);
        self.0.heeded.load(Ordering::SeqCst)
    }

    /// A wish of its own beside this one, for a part of the work.
    pub fn below(&self) -> Self {
        Self(Arc::new(Flags { above: Some(self.clone()), ..Flags::default() }))
    }

    /// Whether somebody asked to stop.
    pub fn wanted(&self) -> bool {
        self.0.wanted.load(Ordering::SeqCst) || self.0.above.as_ref().is_some_and(Self::wanted)
    }

    /// The same, asked by work that will stop.
    pub fn heed(&self) -> bool {
        self.0.heeded.store(true, Ordering::SeqCst);
        self.wanted()
    }

    /// That work is done.
    pub fn rest(&self) {
        self.0.heeded.store(false, Ordering::SeqCst);
    }
}
