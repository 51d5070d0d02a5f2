//! How long to wait for a lock: the arguments `blocking=True, timeout=-1` of `threading.Lock.acquire`.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use primitives::lock::Outcome;

use super::detached::detached;
use crate::exploration::gate;

/// `threading.TIMEOUT_MAX`, in seconds.
const TIMEOUT_S_MAX: f64 = 9_223_372_036.0;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Patience {
    /// Do not wait.
    None,
    /// Wait until then.
    Until(Instant),
    /// Wait for ever.
    Endless,
}

impl Patience {
    /// What the two arguments say.
    pub fn new(blocking: bool, timeout_s: f64) -> PyResult<Self> {
        if timeout_s.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if !blocking && timeout_s != -1.0 {
            return Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"));
        }
        if timeout_s < 0.0 && timeout_s != -1.0 {
            return Err(PyValueError::new_err("timeout value must be a non-negative number"));
        }
        if timeout_s > TIMEOUT_S_MAX {
            return Err(PyOverflowError::new_err("timeout value is too large"));
        }
        Ok(match (blocking, timeout_s) {
            (false, _) => Patience::None,
            (true, -1.0) => Patience::Endless,
            (true, timeout_s) => Patience::seconds(timeout_s),
        })
    }

    /// So many seconds, at least 0.
    pub fn seconds(seconds: f64) -> Self {
        Instant::now().checked_add(Duration::from_secs_f64(seconds)).map_or(Patience::Endless, Patience::Until)
    }

    /// The moment at which the wait ends, if it does.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Until(deadline) => Some(deadline),
            Patience::None | Patience::Endless => None,
        }
    }

    /// Waits with `wait`, detached, until it says that it got what it waited for or that the time is over. When a
    /// signal ends a wait, its Python handler runs; what that raises ends everything.
    pub fn wait(self, py: Python<'_>, wait: impl Fn(Option<Instant>) -> Outcome) -> PyResult<bool> {
        if gate::is_controlled() {
            let rest = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            return gate::wait_for(rest, || wait(Some(Instant::now())) == Outcome::Acquired);
        }
        loop {
            // SAFETY: the token says that this thread is attached; the waits of the locks touch nothing of Python.
            match unsafe { detached(|| wait(self.deadline())) } {
                Outcome::Acquired => return Ok(true),
                Outcome::TimedOut => return Ok(false),
                Outcome::Interrupted => py.check_signals()?,
            }
        }
    }

    /// Reads the arguments of a call.
    ///
    /// # Safety
    /// The arguments are those of a method with positional and named arguments.
    pub unsafe fn parse(
        py: Python<'_>,
        arguments: *const *mut ffi::PyObject,
        n: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> PyResult<Self> {
        // SAFETY: the caller's promise: so many pointers to live objects, then one for each name.
        let (arguments, names) = unsafe {
            let names = Bound::from_borrowed_ptr_or_opt(py, names);
            let n_named = names.as_ref().map_or(Ok(0), |names| names.len())?;
            let all = if n as usize + n_named == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(arguments, n as usize + n_named)
            };
            let all: Vec<_> = all.iter().map(|argument| Bound::from_borrowed_ptr(py, *argument)).collect();
            (all, names)
        };
        let (positional, named) = arguments.split_at(n as usize);
        if positional.len() > 2 {
            let text = format!("acquire() takes at most 2 arguments ({} given)", positional.len());
            return Err(PyTypeError::new_err(text));
        }
        let mut given = [positional.first(), positional.get(1)];
        for (idx, value) in named.iter().enumerate() {
            let name: String = names.as_ref().expect("as many names as values").get_item(idx)?.extract()?;
            let at = match name.as_str() {
                "blocking" => 0,
                "timeout" => 1,
                _ => {
                    let text = format!("acquire() got an unexpected keyword argument '{name}'");
                    return Err(PyTypeError::new_err(text));
                }
            };
            if given[at].replace(value).is_some() {
                let text = format!("acquire() got multiple values for argument '{name}'");
                return Err(PyTypeError::new_err(text));
            }
        }
        let blocking = given[0].map_or(Ok(true), |blocking| blocking.is_truthy())?;
        Patience::new(blocking, given[1].map_or(Ok(-1.0), |timeout| timeout.extract())?)
    }
}
