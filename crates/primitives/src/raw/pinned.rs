//! How tables of Rust values know that nobody looks any more: by the epochs of `crossbeam_epoch`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;

use super::table::{Cell, Epochs, Lock};

/// A window is a pinned epoch. It is open as long as its guard lives, whatever runs in it.
#[derive(Debug)]
pub struct Pinned;

/// A lock that parks who waits.
pub struct Parking(RawMutex);

impl Default for Parking {
    fn default() -> Self {
        Parking(RawMutex::INIT)
    }
}

// SAFETY: it is a mutex.
unsafe impl Lock for Parking {
    #[inline(always)]
    fn lock(&self) {
        self.0.lock();
    }

    #[inline(always)]
    fn unlock(&self) {
        // SAFETY: a table unlocks what it has locked.
        unsafe { self.0.unlock() };
    }
}

// SAFETY: what is deferred runs when every guard has gone that lived when it was deferred.
unsafe impl Epochs for Pinned {
    type Window = Guard;
    type Mark = Arc<AtomicBool>;
    type Lock = Parking;

    #[inline(always)]
    fn is_open(_: &Guard) -> bool {
        true
    }

    fn mark(guard: &Guard) -> Arc<AtomicBool> {
        let mark = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&mark);
        // Deferring runs nothing that was deferred before: only pinning and flushing do.
        guard.defer(move || set.store(true, Ordering::Release));
        mark
    }

    fn is_past(mark: &Arc<AtomicBool>) -> bool {
        mark.load(Ordering::Acquire)
    }

    fn urge(guard: &Guard, _: bool) -> bool {
        guard.flush();
        true
    }
}

/// A value on the heap, replaced as a whole.
#[derive(Debug)]
pub struct Slot<V>(Atomic<V>);

// SAFETY: null is dead; the pointer is an atomic; dropping the cell frees the value.
unsafe impl<V> Cell for Slot<V> {
    type Value = Owned<V>;

    fn is_dead(&self) -> bool {
        // SAFETY: the pointer is compared with null and not followed.
        self.0.load(Ordering::Acquire, unsafe { crossbeam_epoch::unprotected() }).is_null()
    }

    fn revive(&self, value: Owned<V>) {
        self.0.store(value, Ordering::Release);
    }

    fn dead() -> Self {
        Slot(Atomic::null())
    }
}

impl<V> Drop for Slot<V> {
    fn drop(&mut self) {
        let value = std::mem::replace(&mut self.0, Atomic::null());
        // SAFETY: the cell is ours alone, and so is the value that is still in it.
        drop(unsafe { value.try_into_owned() });
    }
}

/// A value that was seen in a slot.
pub struct Seen<'g, V>(Shared<'g, V>);

impl<V> Clone for Seen<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Seen<'_, V> {}

impl<'g, V> Seen<'g, V> {
    /// The value.
    #[inline(always)]
    pub fn value(self) -> &'g V {
        // SAFETY: it was read from the slot while the guard was there, so it is not freed before the guard has gone,
        // and it is not null.
        unsafe { self.0.deref() }
    }
}

impl<V: Send + 'static> Slot<V> {
    /// The value, unless the cell is dead.
    #[inline(always)]
    pub fn load<'g>(&self, guard: &'g Guard) -> Option<Seen<'g, V>> {
        let seen = self.0.load(Ordering::Acquire, guard);
        (!seen.is_null()).then_some(Seen(seen))
    }

    /// Replaces the value if it is still the one that was seen. The old one is freed when nobody can look at it.
    ///
    /// # Errors
    /// Gives the new value back if it is not.
    pub fn replace<'g>(&self, seen: Seen<'g, V>, new: Owned<V>, guard: &'g Guard) -> Result<Seen<'g, V>, Owned<V>> {
        match self.0.compare_exchange(seen.0, new, Ordering::AcqRel, Ordering::Acquire, guard) {
            Ok(new) => {
                // SAFETY: it is out of the slot, and whoever took it out is the only one to free it.
                unsafe { guard.defer_destroy(seen.0) };
                Ok(Seen(new))
            }
            Err(failed) => Err(failed.new),
        }
    }

    /// Kills the cell; `condition` may ask for a certain value.
    pub fn take<'g>(&self, expected: Option<Seen<'g, V>>, guard: &'g Guard) -> Option<Seen<'g, V>> {
        let null = Shared::null();
        let taken = match expected {
            None => self.0.swap(null, Ordering::AcqRel, guard),
            Some(seen) => {
                self.0.compare_exchange(seen.0, null, Ordering::AcqRel, Ordering::Acquire, guard).ok()?;
                seen.0
            }
        };
        if taken.is_null() {
            return None;
        }
        // SAFETY: as in `replace`.
        unsafe { guard.defer_destroy(taken) };
        Some(Seen(taken))
    }
}
