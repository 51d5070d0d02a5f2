//! The baton: of all threads of an exploration one runs at a time, and only it touches the state that all share.
//!
//! A thread has a seat, on which it sleeps detached from the interpreter until the baton is handed to it, so that
//! neither the collector nor the GIL waits for it. Handing over is one wake-up and one sleep of the kernel.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use primitives::raw::futex::{Futex, Sleep};

use super::detached::detached;

/// A place in the exploration: a thread's number, [`DRIVER`] or [`NOBODY`].
pub type Seat = i32;

/// Whoever asked for the exploration.
pub const DRIVER: Seat = 64;
/// A thread that is not part of it.
pub const NOBODY: Seat = -1;

const SEATS: usize = 65;

thread_local! {
    static ME: Cell<Seat> = const { Cell::new(NOBODY) };
    static SEAT: Cell<Seat> = const { Cell::new(NOBODY) };
}

static CHAIRS: [Futex; SEATS] = [const { Futex::new(0) }; SEATS];
static HOLDER: AtomicI32 = AtomicI32::new(NOBODY);

/// The seat of this thread.
#[inline(always)]
pub fn me() -> Seat {
    ME.get()
}

/// Takes a seat, or leaves it ([`NOBODY`]).
pub fn sit(seat: Seat) {
    ME.set(seat);
    SEAT.set(seat);
}

/// The seat of this thread, also while it has stepped aside.
pub fn seat() -> Seat {
    SEAT.get()
}

/// The driver takes the baton that nobody has; false if somebody has it.
pub fn take() -> bool {
    let has_taken = HOLDER.compare_exchange(NOBODY, DRIVER, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if has_taken {
        sit(DRIVER);
    }
    has_taken
}

/// The driver lays the baton down.
pub fn lay_down() {
    debug_assert_eq!(HOLDER.load(Ordering::Relaxed), DRIVER);
    sit(NOBODY);
    HOLDER.store(NOBODY, Ordering::Release);
}

/// For as long as this lives, the thread counts as one outside: what it does is not observed.
pub struct Aside(Seat);

impl Aside {
    /// Steps aside.
    pub fn step() -> Aside {
        Aside(ME.replace(NOBODY))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        ME.set(self.0);
    }
}

/// Hands the baton to another seat, and goes on without it.
pub fn give(to: Seat) {
    debug_assert_eq!(HOLDER.load(Ordering::Relaxed), me());
    HOLDER.store(to, Ordering::Release);
    let chair = &CHAIRS[to as usize];
    chair.word.store(1, Ordering::Release);
    chair.wake_one();
}

/// Hands the baton to another seat and leaves one's own.
pub fn give_and_leave(to: Seat) {
    give(to);
    sit(NOBODY);
}

/// How a wait for the baton ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is here.
    Here,
    /// Not yet, but the thread should look around: a signal came, or the time is over.
    NotYet,
}

/// Hands the baton to another seat and waits until it comes back to this one. Only by an attached thread.
pub fn hand_over(to: Seat) {
    let mine = me();
    // SAFETY: the thread is attached, as everywhere in this crate, and the closure touches no Python object.
    unsafe {
        detached(|| {
            give(to);
            while sleep(mine, None) == Wait::NotYet {}
        });
    }
}

/// Waits for the baton at `seat`, so long at most. Only by an attached thread.
pub fn wait(seat: Seat, at_most: Option<Duration>) -> Wait {
    // SAFETY: as above.
    unsafe { detached(|| sleep(seat, at_most)) }
}

fn sleep(seat: Seat, at_most: Option<Duration>) -> Wait {
    let chair = &CHAIRS[seat as usize];
    let deadline = at_most.map(|at_most| Instant::now() + at_most);
    while chair.word.swap(0, Ordering::Acquire) == 0 {
        if chair.sleep(0, deadline) != Sleep::Woken && at_most.is_some() {
            return if chair.word.swap(0, Ordering::Acquire) == 0 { Wait::NotYet } else { Wait::Here };
        }
    }
    Wait::Here
}

/// State that only the holder of the baton touches.
pub struct Held<T>(UnsafeCell<T>, Cell<bool>);

// SAFETY: `with` lets in only the thread that holds the baton, and handing it over orders what two holders do.
unsafe impl<T: Send> Sync for Held<T> {}

impl<T> Held<T> {
    /// With a first value.
    pub const fn new(value: T) -> Held<T> {
        Held(UnsafeCell::new(value), Cell::new(false))
    }

    /// The same for a thread that has stepped aside, or does not know whether it has the baton: nothing is done if it
    /// has not, or is inside already.
    pub fn try_with(&self, look: impl FnOnce(&mut T)) {
        let mine = seat();
        if mine == NOBODY || HOLDER.load(Ordering::Acquire) != mine || self.1.replace(true) {
            return;
        }
        // SAFETY: this thread holds the baton and is not inside already.
        look(unsafe { &mut *self.0.get() });
        self.1.set(false);
    }

    /// Looks at the state. Runs no Python code inside.
    ///
    /// # Panics
    /// If this thread does not hold the baton, or is inside already.
    #[inline]
    pub fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        struct Leave<'a>(&'a Cell<bool>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let mine = me();
        assert!(mine != NOBODY && HOLDER.load(Ordering::Acquire) == mine, "only the holder of the baton may look");
        assert!(!self.1.replace(true), "already looking");
        let _leave = Leave(&self.1);
        // SAFETY: this thread holds the baton and is not inside already.
        look(unsafe { &mut *self.0.get() })
    }
}
