//! A value that is made once, by whoever comes first, while the others wait for it.
//!
//! Linearizable: all callers get the one value that was made. A maker that fails leaves the cell empty, and one of
//! those who waited tries next. [`Once::reset`] empties the cell; what is being made at that moment goes to those who
//! wait for it already, and is not kept.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::flight::{Circle, Flight, Who};

enum State<T> {
    Empty,
    Making(Arc<Flight<T>>),
    Made(Arc<T>),
}

/// A cell for one value.
pub struct Once<T> {
    state: Mutex<State<T>>,
}

/// What a caller has to do.
pub enum Begin<T> {
    /// Nothing: here it is.
    Made(Arc<T>),
    /// Make the value, and then call [`Once::land`] or [`Once::fail`] in any case.
    Make(Arc<Flight<T>>),
    /// Wait for this to land, and begin again if it has no outcome.
    Wait(Arc<Flight<T>>),
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub enum OnceError<E> {
    /// The caller's own attempt failed.
    Failed(E),
    /// The one who makes it took longer.
    Timeout,
    /// The wait would never end, see [`Circle`].
    Circle,
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnceError::Failed(cause) => cause.fmt(f),
            OnceError::Timeout => f.write_str("the value was not made in time"),
            OnceError::Circle => f.write_str("the value is needed to make itself"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for OnceError<E> {}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once { state: Mutex::new(State::Empty) }
    }
}

impl<T> Once<T> {
    /// The value, if it is made.
    pub fn get(&self) -> Option<Arc<T>> {
        match &*self.state.lock() {
            State::Made(value) => Some(Arc::clone(value)),
            _ => None,
        }
    }

    /// The value; where there is none, `make` is called unless another caller is at it.
    ///
    /// # Errors
    /// See [`OnceError`]. A `make` that panics leaves the cell empty.
    pub fn get_or_make<E>(
        &self,
        timeout: Option<Duration>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, OnceError<E>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match self.begin(Who::thread()) {
                Begin::Made(value) => return Ok(value),
                Begin::Make(flight) => {
                    let turn = Turn { once: self, flight: &flight };
                    let value = make().map_err(OnceError::Failed)?;
                    return Ok(turn.once.land(turn.flight, value, |_| ()));
                }
                Begin::Wait(flight) => {
                    let landed = flight.wait(until).map_err(|Circle| OnceError::Circle)?;
                    if let Some(value) = flight.outcome() {
                        return Ok(value);
                    }
                    if !landed {
                        return Err(OnceError::Timeout);
                    }
                }
            }
        }
    }

    /// Says what `who` has to do to get the value.
    pub fn begin(&self, who: Who) -> Begin<T> {
        let mut state = self.state.lock();
        match &*state {
            State::Made(value) => Begin::Made(Arc::clone(value)),
            State::Making(flight) if !flight.is_orphan() => Begin::Wait(Arc::clone(flight)),
            _ => {
                let flight = Flight::new(who);
                let orphan = mem::replace(&mut *state, State::Making(Arc::clone(&flight)));
                drop(state);
                // Its waiters may own anything: they are dropped here, when no lock is held.
                drop(orphan);
                Begin::Make(flight)
            }
        }
    }

    /// Keeps the value that was made and wakes who waits. `publish` runs while no other caller can change the cell, and
    /// only if the value is kept: for a copy that is read without this cell.
    pub fn land(&self, flight: &Arc<Flight<T>>, value: T, publish: impl FnOnce(&T)) -> Arc<T> {
        let value = Arc::new(value);
        {
            let mut state = self.state.lock();
            if matches!(&*state, State::Making(current) if Arc::ptr_eq(current, flight)) {
                publish(&value);
                *state = State::Made(Arc::clone(&value));
            }
        }
        flight.land(Some(Arc::clone(&value)));
        value
    }

    /// Gives the turn back: the cell is empty, and who waits may try.
    pub fn fail(&self, flight: &Arc<Flight<T>>) {
        {
            let mut state = self.state.lock();
            if matches!(&*state, State::Making(current) if Arc::ptr_eq(current, flight)) {
                *state = State::Empty;
            }
        }
        flight.land(None);
    }

    /// Empties the cell and returns what it held. `withdraw` runs while no other caller can change the cell: for a copy
    /// that is read without this cell.
    pub fn reset(&self, withdraw: impl FnOnce()) -> Option<Arc<T>> {
        let before = {
            let mut state = self.state.lock();
            withdraw();
            mem::replace(&mut *state, State::Empty)
        };
        match before {
            State::Made(value) => Some(value),
            _ => None,
        }
    }
}

/// Gives the turn back unless the value has landed.
struct Turn<'a, T> {
    once: &'a Once<T>,
    flight: &'a Arc<Flight<T>>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if !self.flight.is_landed() {
            self.once.fail(self.flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(30));

    fn made<T: Clone>(value: Result<Arc<T>, OnceError<&'static str>>) -> Result<T, OnceError<&'static str>> {
        value.map(|value| (*value).clone())
    }

    #[test]
    fn one_maker_for_all_threads() {
        for _ in 0..50 {
            let (once, calls, start) = (Once::default(), AtomicUsize::new(0), Barrier::new(4));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        let value = once.get_or_make(LONG, || {
                            thread::yield_now();
                            Ok(calls.fetch_add(1, Ordering::SeqCst))
                        });
                        assert_eq!(made(value), Ok(0));
                    });
                }
            });
            assert_eq!(calls.into_inner(), 1);
        }
    }

    #[test]
    fn a_failure_leaves_the_cell_empty_and_who_waits_tries_next() {
        let (once, start) = (Once::default(), Barrier::new(2));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                once.get_or_make(LONG, || {
                    start.wait();
                    thread::sleep(Duration::from_millis(10));
                    Err("no")
                })
            });
            start.wait();
            assert_eq!(made(once.get_or_make(LONG, || Ok(2))), Ok(2));
            assert_eq!(made(first.join().expect("no panic")), Err(OnceError::Failed("no")));
        });
        assert_eq!(once.get().as_deref(), Some(&2));
    }

    #[test]
    fn a_panic_leaves_the_cell_empty() {
        let once: Once<i32> = Once::default();
        let panic = catch_unwind(AssertUnwindSafe(|| once.get_or_make::<()>(None, || panic!("no"))));
        assert!(panic.is_err());
        assert_eq!(made(once.get_or_make(None, || Ok(3))), Ok(3));
    }

    #[test]
    fn needing_itself_is_an_error_at_once() {
        let once: Once<i32> = Once::default();
        let value = once.get_or_make(None, || match once.get_or_make::<()>(None, || Ok(1)) {
            Err(OnceError::Circle) => Err("circle"),
            other => panic!("{other:?}"),
        });
        assert_eq!(made(value), Err(OnceError::Failed("circle")));
    }

    #[test]
    fn a_wait_is_bounded() {
        let (once, start, end) = (Once::default(), Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                once.get_or_make(None, || {
                    start.wait();
                    end.wait();
                    Ok::<_, ()>(1)
                })
            });
            start.wait();
            let value = once.get_or_make(Some(Duration::from_millis(10)), || Ok(2));
            assert_eq!(made(value), Err(OnceError::Timeout));
            end.wait();
        });
    }

    #[test]
    fn a_reset_forgets_what_was_made_and_what_is_being_made() {
        let once = Once::default();
        assert_eq!(made(once.get_or_make(None, || Ok(1))), Ok(1));
        assert_eq!(once.reset(|| ()).as_deref(), Some(&1));
        let Begin::Make(flight) = once.begin(Who::thread()) else { panic!("the cell is empty") };
        once.reset(|| ());
        assert_eq!(*once.land(&flight, 2, |_| panic!("it is not kept")), 2);
        assert_eq!(once.get(), None);
        assert_eq!(flight.outcome().as_deref(), Some(&2));
    }
}
