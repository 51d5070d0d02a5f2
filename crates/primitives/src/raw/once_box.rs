//! A place that is empty until the first use fills it, without a lock: a fork or a stopped thread can never leave it
//! half made. Threads that fill it at once each make a value; one value stays, the others are dropped.

use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use crate::sync::AtomicPtr;

/// An owned value that is made at most once and never moves.
pub struct OnceBox<T> {
    value: AtomicPtr<T>,
    owns: PhantomData<T>,
}

impl<T> OnceBox<T> {
    /// An empty place.
    #[cfg(not(feature = "model"))]
    pub const fn new() -> Self {
        OnceBox { value: AtomicPtr::new(null_mut()), owns: PhantomData }
    }

    /// The same for the model checker.
    #[cfg(feature = "model")]
    pub fn new() -> Self {
        OnceBox { value: AtomicPtr::new(null_mut()), owns: PhantomData }
    }
}

impl<T: Send + Sync> OnceBox<T> {
    /// The value, if there is one.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the pointer is null or comes from a box that is freed in `drop` only; its content was written
        // before the pointer was published.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// The value; `make` makes it if there is none. `make` may run in several threads at once; one result stays.
    #[inline(always)]
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.fill(make()),
        }
    }

    #[cold]
    fn fill(&self, value: T) -> &T {
        let made = Box::into_raw(Box::new(value));
        let swapped = self.value.compare_exchange(null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        // SAFETY: either `made` was published and lives as long as `self`, or it never left this function and the
        // pointer that stands there was published by another thread.
        unsafe {
            match swapped {
                Ok(_) => &*made,
                Err(other) => {
                    drop(Box::from_raw(made));
                    &*other
                }
            }
        }
    }
}

impl<T> Default for OnceBox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        let value = self.value.load(Ordering::Acquire);
        if !value.is_null() {
            // SAFETY: the box was published by `fill` and nobody else can see it any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::OnceBox;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted<'a>(&'a AtomicUsize);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn threads_that_fill_it_at_once_get_one_value_and_the_rest_is_dropped() {
        let (made, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let place = OnceBox::new();
        std::thread::scope(|scope| {
            let fill = || {
                let value = place.get_or_make(|| {
                    made.fetch_add(1, Ordering::Relaxed);
                    Counted(&dropped)
                });
                std::ptr::from_ref(value) as usize
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
            let mut seen: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            seen.dedup();
            assert_eq!(seen.len(), 1);
        });
        assert_eq!(dropped.load(Ordering::Relaxed), made.load(Ordering::Relaxed) - 1);
        drop(place);
        assert_eq!(dropped.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use super::OnceBox;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn whoever_fills_it_all_see_one_whole_value() {
        loom::model(|| {
            let place = Arc::new(OnceBox::new());
            let others = [1, 2].map(|mine| {
                let place = place.clone();
                thread::spawn(move || *place.get_or_make(|| Box::new(mine)).as_ref())
            });
            let seen = place.get().map(|value| **value);
            let filled = others.map(|other| other.join().unwrap());
            assert_eq!(filled[0], filled[1]);
            assert!(seen.is_none_or(|seen| seen == filled[0]));
        });
    }
}
