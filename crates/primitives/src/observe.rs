//! What happens at a lock when somebody looks: the order watch and the timing, each switched on and off at run time.
//! While both are off, that costs one relaxed load for each acquisition.
//!
//! A lock makes its [`Observed`] at the first acquisition that is looked at. Its binding calls [`Observed::before`],
//! takes the lock, calls [`Observed::acquired`], and at the release [`Observed::released`], also if everything has been
//! switched off meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::stats::{self, Series, now_ns};
use crate::watch::{self, Inversion, Node, Order, Site};

/// What can be looked at.
#[derive(Clone, Copy)]
pub enum Look {
    /// In which order locks are taken.
    Order = 1,
    /// How long threads wait for locks and hold them.
    Times = 2,
}

static LOOKS: AtomicU32 = AtomicU32::new(0);

/// Does somebody look?
#[inline(always)]
pub fn is_on() -> bool {
    LOOKS.load(Relaxed) != 0
}

/// Is this looked at?
pub fn looks_at(look: Look) -> bool {
    LOOKS.load(Relaxed) & look as u32 != 0
}

/// Switches a look on or off; returns what was set before.
pub fn switch(look: Look, on: bool) -> bool {
    let bit = look as u32;
    let before = if on { LOOKS.fetch_or(bit, Relaxed) } else { LOOKS.fetch_and(!bit, Relaxed) };
    before & bit != 0
}

/// A lock as observers know it.
pub struct Observed {
    node: Node,
    series: &'static Series,
    /// When the holder got the lock. For a lock that has one holder at a time.
    since_ns: AtomicU64,
}

/// What speaks against waiting for a lock.
pub enum Objection {
    /// The thread holds it already.
    SelfDeadlock,
    /// It takes locks in an order that contradicts an earlier one. True: this order is reported for the first time.
    Inversion(Arc<Inversion>, bool),
}

impl Observed {
    /// `kind` is the name of the type; a lock without a name is called by it.
    pub fn new(kind: &str, name: Option<&str>, is_reentrant: bool) -> Self {
        let series = stats::series(name.unwrap_or(kind));
        Observed { node: Node::new(kind, name, is_reentrant), series, since_ns: AtomicU64::new(0) }
    }

    /// How the lock is called in reports.
    pub fn label(&self) -> &str {
        self.node.label()
    }

    /// The thread `me` is about to wait for the lock, with or without an end. `site` says where, and is called only for
    /// an order that is new.
    pub fn before(&self, me: usize, is_endless: bool, site: impl FnOnce() -> Site) -> Option<Objection> {
        if !looks_at(Look::Order) {
            return None;
        }
        match watch::check(&self.node, me, is_endless) {
            Order::Known => None,
            Order::SelfDeadlock => Some(Objection::SelfDeadlock),
            Order::Reported(inversion) => Some(Objection::Inversion(inversion, false)),
            Order::New => watch::learn(&self.node, me, site()).map(|found| Objection::Inversion(found, true)),
        }
    }

    /// The thread `me` has got the lock, after a wait since `began_ns`. Returns the time.
    pub fn acquired(&self, me: usize, began_ns: u64) -> u64 {
        let now = now_ns();
        if looks_at(Look::Times) {
            self.series.waits.record(now.saturating_sub(began_ns), me);
        }
        if looks_at(Look::Order) {
            watch::took(&self.node, me);
        }
        self.since_ns.store(now, Relaxed);
        now
    }

    /// When the holder got the lock.
    pub fn since_ns(&self) -> u64 {
        self.since_ns.load(Relaxed)
    }

    /// The lock is given back; `holder` got it at `since_ns`.
    pub fn released(&self, holder: usize, since_ns: u64) {
        if looks_at(Look::Times) {
            self.series.holds.record(now_ns().saturating_sub(since_ns), holder);
        }
        watch::gave(&self.node, holder);
    }
}
