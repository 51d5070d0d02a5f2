//! A value that one thread at a time works on, for a moment, and that a fork never finds half-changed.
//!
//! The locks stand in a fixed table, which lets a fork wait until none is held. So values may share one, and this
//! holds: what runs inside [`Guarded::with`] is short, calls nothing foreign, does not block, and enters no other
//! `Guarded`.

use std::cell::UnsafeCell;

/// See the module.
pub struct Guarded<T> {
    #[cfg(not(feature = "model"))]
    value: UnsafeCell<T>,
    #[cfg(feature = "model")]
    value: loom::sync::Mutex<UnsafeCell<T>>,
}

// SAFETY: one thread at a time reaches the value, through its section.
unsafe impl<T: Send> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Guarded<T> {}

#[cfg(not(feature = "model"))]
impl<T> Guarded<T> {
    /// Guards a value.
    pub const fn new(value: T) -> Self {
        Guarded { value: UnsafeCell::new(value) }
    }

    /// Works on the value while no other thread does.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let _entered = imp::enter(self as *const Self as usize);
        // SAFETY: all who reach the value went through the same section, and it is not entered twice by one thread.
        work(unsafe { &mut *self.value.get() })
    }
}

#[cfg(feature = "model")]
impl<T> Guarded<T> {
    /// Guards a value.
    pub fn new(value: T) -> Self {
        Guarded { value: loom::sync::Mutex::new(UnsafeCell::new(value)) }
    }

    /// Works on the value while no other thread does.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(self.value.lock().expect("no panic in the model").get_mut())
    }
}

#[cfg(not(feature = "model"))]
pub(super) use imp::{enter_all, leave_all};
#[cfg(feature = "model")]
pub(super) fn enter_all() {}
#[cfg(feature = "model")]
pub(super) fn leave_all() {}

#[cfg(not(feature = "model"))]
mod imp {
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    use crate::raw::futex::Futex;

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    const HELD_AND_WAITED_FOR: u32 = 2;
    const TURNS_BEFORE_SLEEP: u32 = 100;

    /// The lock of some of the values. It has a cache line of its own.
    #[repr(align(64))]
    struct Section(Futex);

    static SECTIONS: [Section; 64] = [const { Section(Futex::new(FREE)) }; 64];

    pub struct Entered(&'static Section);

    /// Enters the section of the value at this address.
    pub fn enter(address: usize) -> Entered {
        // Fibonacci hashing: the upper bits depend on all bits of the address.
        let idx = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        let section = &SECTIONS[idx as usize];
        section.enter();
        Entered(section)
    }

    impl Drop for Entered {
        fn drop(&mut self) {
            self.0.leave();
        }
    }

    impl Section {
        #[inline]
        fn enter(&self) {
            if self.0.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
                self.wait();
            }
        }

        #[cold]
        fn wait(&self) {
            for _ in 0..TURNS_BEFORE_SLEEP {
                if self.0.word.load(Relaxed) == FREE
                    && self.0.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
                {
                    return;
                }
                std::hint::spin_loop();
            }
            while self.0.word.swap(HELD_AND_WAITED_FOR, Acquire) != FREE {
                self.0.sleep(HELD_AND_WAITED_FOR, None);
            }
        }

        #[inline]
        fn leave(&self) {
            if self.0.word.swap(FREE, Release) == HELD_AND_WAITED_FOR {
                self.0.wake_one();
            }
        }
    }

    /// Waits until no section is entered, and keeps it so.
    pub fn enter_all() {
        SECTIONS.iter().for_each(Section::enter);
    }

    /// Ends what [`enter_all`] began, in the parent and in the child.
    pub fn leave_all() {
        SECTIONS.iter().for_each(Section::leave);
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    #[test]
    fn no_update_is_lost() {
        let (n_threads, n_updates) = if cfg!(miri) { (3, 50) } else { (4, 20_000) };
        let value = Guarded::new(0);
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| (0..n_updates).for_each(|_| value.with(|value| *value += 1)));
            }
        });
        assert_eq!(value.with(|value| *value), n_threads * n_updates);
    }

    #[test]
    fn a_panic_inside_leaves_the_section() {
        let value = Guarded::new(0);
        let work = std::panic::AssertUnwindSafe(|| value.with(|_| panic!("expected")));
        assert!(std::panic::catch_unwind(work).is_err());
        value.with(|value| *value = 1);
    }
}
