//! The types `Lock` and `RLock`. A call that finds the lock free does not leave this file.

use std::ffi::c_void;
use std::ptr::null_mut;

use primitives::lock::{RLock, TooDeep};
use primitives::observe::{self, Observed};
use primitives::raw::once_box::OnceBox;
use primitives::raw::thread::ident;
use primitives::stats::now_ns;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject};
use pyo3::prelude::*;

use super::call::{in_quotes, name_argument, result, slowly};
use super::native_type::{NativeType, slot};
use super::patience::Patience;
use super::slots::{forget_weakrefs, free, none, or_none, truth};
use crate::observer;
use crate::within::Within;

/// Both types: a `Lock` uses the inside of the `RLock` alone.
#[repr(C)]
struct Layout {
    base: PyObject,
    weak_references: *mut PyObject,
    /// A `str`, or null.
    name: *mut PyObject,
    lock: RLock,
    observed: OnceBox<Observed>,
}

/// Adds `Lock` and `RLock`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let lock = NativeType::new::<Layout>(
        c"raceproof.Lock",
        c"Lock(name=None)\n--\n\nMutual exclusion between threads, as `threading.Lock`, with a timeout, a name, and a holder that can be seen.\n\nAny thread may release it. It is not reentrant and keeps no queue: a thread that comes while it is free may overtake\nthose that wait. A wait can be ended by a signal handler that raises. In a forked child it is free if another thread\nheld it. `with lock.within(0.5):` raises WaitTimeout.",
    );
    let lock = common(lock, lock_new)
        .slot(ffi::Py_tp_repr, lock_repr as *mut c_void)
        .no_arguments(c"__enter__", lock_enter, c"__enter__($self, /)\n--\n\nAs acquire().")
        .arguments(c"__exit__", lock_exit, c"__exit__($self, /, *exc_info)\n--\n\nAs release().")
        .keywords(c"acquire", lock_acquire, ACQUIRE)
        .no_arguments(
            c"release",
            lock_release,
            c"release($self, /)\n--\n\nGives the lock back, whichever thread took it. RuntimeError if it is not held.",
        );
    lock.build(module, None)?;
    let rlock = NativeType::new::<Layout>(
        c"raceproof.RLock",
        c"RLock(name=None)\n--\n\nA lock that its holder may take again, as `threading.RLock`; it is free when it was released as often.\n\nOnly the holder may release it. Otherwise as `Lock`.",
    );
    let rlock = common(rlock, rlock_new)
        .slot(ffi::Py_tp_repr, rlock_repr as *mut c_void)
        .no_arguments(c"__enter__", rlock_enter, c"__enter__($self, /)\n--\n\nAs acquire().")
        .arguments(c"__exit__", rlock_exit, c"__exit__($self, /, *exc_info)\n--\n\nAs release().")
        .keywords(c"acquire", rlock_acquire, ACQUIRE)
        .no_arguments(
            c"release",
            rlock_release,
            c"release($self, /)\n--\n\nGives the lock back once. RuntimeError if this thread does not hold it.",
        )
        .no_arguments(c"_is_owned", rlock_is_owned, c"_is_owned($self, /)\n--\n\nFor threading.Condition.")
        .no_arguments(c"_release_save", rlock_release_save, c"_release_save($self, /)\n--\n\nFor threading.Condition.")
        .one_argument(
            c"_acquire_restore",
            rlock_acquire_restore,
            c"_acquire_restore($self, state, /)\n--\n\nFor threading.Condition.",
        )
        .no_arguments(
            c"_recursion_count",
            rlock_recursion_count,
            c"_recursion_count($self, /)\n--\n\nHow often this thread holds the lock.",
        );
    rlock.build(module, None)?;
    Ok(())
}

const ACQUIRE: &std::ffi::CStr = c"acquire($self, /, blocking=True, timeout=-1)\n--\n\nTakes the lock; False if it is not to be had: at once with blocking=False, else within `timeout` seconds (-1: no\nlimit). With the watch on, LockOrderError or DeadlockError instead of a wait that may last for ever.";

/// What both types have.
fn common(built: NativeType, new: ffi::newfunc) -> NativeType {
    built
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .lifetime(new, dealloc, std::mem::offset_of!(Layout, weak_references))
        .no_arguments(c"locked", locked, c"locked($self, /)\n--\n\nDoes a thread hold the lock now?")
        .one_argument(
            c"within",
            within,
            c"within($self, timeout, /)\n--\n\n`with lock.within(0.5):` waits at most so many seconds, then raises WaitTimeout with the holder's name.",
        )
        .no_arguments(c"_at_fork_reinit", at_fork_reinit, c"_at_fork_reinit($self, /)\n--\n\nMakes the lock free.")
        .property(c"name", get_name, c"The name that was given, or None.")
        .property(c"holder", get_holder, c"The thread that holds the lock now: (identifier, name), or None.")
        .property(c"held_for", get_held_for, c"For how many seconds the holder has had the lock; None while neither the watch nor the timing is on.")
        .property(c"waiters", get_waiters, c"How many threads wait for the lock now.")
}

unsafe fn layout<'a>(this: *mut PyObject) -> &'a Layout {
    // SAFETY: the slots of both types get objects of them, which have this layout, and live as long as the call.
    unsafe { &*this.cast::<Layout>() }
}

impl Layout {
    /// The name for reports.
    fn name(&self, py: Python<'_>) -> Option<String> {
        // SAFETY: a name is a live `str`, or null.
        let name = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.name) };
        name.and_then(|name| name.extract().ok())
    }

    fn observed(&self, py: Python<'_>, kind: Kind) -> &Observed {
        self.observed.get_or_make(|| Observed::new(kind.name(), self.name(py).as_deref(), kind == Kind::Reentrant))
    }

    /// Takes the lock, observed or not. For an `RLock` that this thread does not hold.
    #[cold]
    fn acquire(&self, py: Python<'_>, kind: Kind, patience: Patience) -> PyResult<bool> {
        if !observe::is_on() {
            return self.acquire_unseen(py, patience, 1);
        }
        let (me, observed) = (ident(), self.observed(py, kind));
        if patience != Patience::None {
            let is_endless = patience == Patience::Endless;
            observer::ask(py, observed, me, is_endless)?;
        }
        self.acquire_seen(py, observed, patience, 1)
    }

    fn acquire_seen(&self, py: Python<'_>, observed: &Observed, patience: Patience, depth: u32) -> PyResult<bool> {
        let began_ns = now_ns();
        let is_taken = self.acquire_unseen(py, patience, depth)?;
        if is_taken {
            observed.acquired(ident(), began_ns);
            self.lock.lock().mark();
        }
        Ok(is_taken)
    }

    fn acquire_unseen(&self, py: Python<'_>, patience: Patience, depth: u32) -> PyResult<bool> {
        let me = ident();
        if self.lock.try_enter(me) || (patience != Patience::None && SPINS && self.lock.try_enter_soon(me)) {
            // One is what these have entered; more is for a condition variable.
            self.lock.set_depth(me, depth);
            return Ok(true);
        }
        match patience {
            Patience::None => Ok(false),
            _ => patience.wait(py, |deadline| self.lock.wait(me, deadline, depth)),
        }
    }

    /// Tells the observers; then the lock is to be released.
    #[cold]
    fn end_of_hold(&self, py: Python<'_>, kind: Kind) {
        let observed = self.observed(py, kind);
        let holder = self.lock.lock().holder().unwrap_or(0);
        observed.released(holder, observed.since_ns());
    }
}

/// With a GIL, nobody gives a lock back while this thread spins.
pub const SPINS: bool = cfg!(Py_GIL_DISABLED);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Reentrant,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Plain => "Lock",
            Kind::Reentrant => "RLock",
        }
    }

    fn release_error(self) -> PyErr {
        PyRuntimeError::new_err(match self {
            Kind::Plain => "release unlocked lock",
            Kind::Reentrant => "cannot release un-acquired lock",
        })
    }
}

unsafe fn new(
    class: *mut PyTypeObject,
    arguments: *mut PyObject,
    named: *mut PyObject,
    format: &std::ffi::CStr,
) -> *mut PyObject {
    // SAFETY: CPython gives live arguments; the fresh memory is filled before anybody sees it.
    unsafe {
        let Ok(name) = name_argument(arguments, named, format) else {
            return null_mut();
        };
        let Some(alloc) = (*class).tp_alloc else {
            return null_mut();
        };
        let this = alloc(class, 0);
        if this.is_null() {
            ffi::Py_XDECREF(name);
            return this;
        }
        let layout = this.cast::<Layout>();
        (&raw mut (*layout).weak_references).write(null_mut());
        (&raw mut (*layout).name).write(name);
        (&raw mut (*layout).lock).write(RLock::new());
        (&raw mut (*layout).observed).write(OnceBox::new());
        this
    }
}

slot! {
    fn lock_new(class: *mut PyTypeObject, arguments: *mut PyObject, named: *mut PyObject) -> *mut PyObject {
        new(class, arguments, named, c"|O:Lock")
    } else null_mut()

    fn rlock_new(class: *mut PyTypeObject, arguments: *mut PyObject, named: *mut PyObject) -> *mut PyObject {
        new(class, arguments, named, c"|O:RLock")
    } else null_mut()

    fn dealloc(this: *mut PyObject) -> () {
        let fields = this.cast::<Layout>();
        forget_weakrefs(this, (*fields).weak_references);
        ffi::Py_XDECREF((*fields).name);
        (&raw mut (*fields).observed).drop_in_place();
        free(this);
    } else ()

    fn lock_enter(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let layout = layout(this);
        if !observe::is_on() && layout.lock.lock().try_acquire(ident()) {
            return truth(true);
        }
        slowly(|py| layout.acquire(py, Kind::Plain, Patience::Endless).map(|_| truth(true)))
    } else null_mut()

    fn lock_exit(this: *mut PyObject, _arguments: *mut *mut PyObject, _n: Py_ssize_t) -> *mut PyObject {
        lock_give(this)
    } else null_mut()

    fn lock_release(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        lock_give(this)
    } else null_mut()

    fn lock_acquire(this: *mut PyObject, arguments: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let layout = layout(this);
        if n == 0 && names.is_null() && !observe::is_on() && layout.lock.lock().try_acquire(ident()) {
            return truth(true);
        }
        slowly(|py| {
            let patience = Patience::parse(py, arguments, n, names)?;
            layout.acquire(py, Kind::Plain, patience).map(truth)
        })
    } else null_mut()

    fn lock_repr(this: *mut PyObject) -> *mut PyObject {
        slowly(|py| result(representation(py, this, Kind::Plain)?))
    } else null_mut()

    fn locked(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        truth(layout(this).lock.lock().is_held())
    } else null_mut()

    fn within(this: *mut PyObject, timeout: *mut PyObject) -> *mut PyObject {
        slowly(|py| result(Within::new(&Bound::from_borrowed_ptr(py, this), &Bound::from_borrowed_ptr(py, timeout))?.into_pyobject(py)?))
    } else null_mut()

    fn at_fork_reinit(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        layout(this).lock.reset();
        none()
    } else null_mut()

    fn get_name(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        or_none(layout(this).name)
    } else null_mut()

    fn get_holder(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        slowly(|py| result(observer::thread(py, layout(this).lock.lock().holder())?))
    } else null_mut()

    fn get_held_for(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        slowly(|py| {
            let layout = layout(this);
            let seen = layout.observed.get().filter(|_| layout.lock.lock().is_marked());
            let seconds = seen.map(|observed| observer::seconds_since(observed.since_ns()));
            result(seconds.into_pyobject(py)?)
        })
    } else null_mut()

    fn get_waiters(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        ffi::PyLong_FromLong(layout(this).lock.lock().waiters().into())
    } else null_mut()

    fn rlock_enter(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        rlock_take(this, |_| Ok(Patience::Endless))
    } else null_mut()

    fn rlock_exit(this: *mut PyObject, _arguments: *mut *mut PyObject, _n: Py_ssize_t) -> *mut PyObject {
        rlock_give(this)
    } else null_mut()

    fn rlock_acquire(this: *mut PyObject, arguments: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        if n == 0 && names.is_null() {
            return rlock_take(this, |_| Ok(Patience::Endless));
        }
        slowly(|py| {
            // A wrong argument is an error also where the lock is free.
            let patience = Patience::parse(py, arguments, n, names)?;
            Ok(rlock_take(this, |_| Ok(patience)))
        })
    } else null_mut()

    fn rlock_release(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        rlock_give(this)
    } else null_mut()

    fn rlock_repr(this: *mut PyObject) -> *mut PyObject {
        slowly(|py| result(representation(py, this, Kind::Reentrant)?))
    } else null_mut()

    fn rlock_is_owned(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        truth(layout(this).lock.lock().is_held_by(ident()))
    } else null_mut()

    fn rlock_recursion_count(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        ffi::PyLong_FromLong(layout(this).lock.depth(ident()).into())
    } else null_mut()

    fn rlock_release_save(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        slowly(|py| {
            let (layout, me) = (layout(this), ident());
            let lock = layout.lock.lock();
            if lock.is_held_by(me) && lock.is_marked() {
                layout.end_of_hold(py, Kind::Reentrant);
            }
            let depth = layout.lock.release_all(me).map_err(|_| Kind::Reentrant.release_error())?;
            result((depth, me).into_pyobject(py)?)
        })
    } else null_mut()

    fn rlock_acquire_restore(this: *mut PyObject, state: *mut PyObject) -> *mut PyObject {
        slowly(|py| {
            let (depth, _): (u32, usize) = Bound::from_borrowed_ptr(py, state).extract()?;
            let layout = layout(this);
            // The condition variable must get its lock back, so nothing may be said against it.
            match observe::is_on() {
                true => layout.acquire_seen(py, layout.observed(py, Kind::Reentrant), Patience::Endless, depth)?,
                false => layout.acquire_unseen(py, Patience::Endless, depth)?,
            };
            Ok(none())
        })
    } else null_mut()
}

/// The release of a `Lock`.
#[inline(always)]
unsafe fn lock_give(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: the slots' promise.
    let layout = unsafe { layout(this) };
    let lock = layout.lock.lock();
    if lock.is_marked() {
        // SAFETY: a slot runs attached.
        layout.end_of_hold(unsafe { Python::assume_attached() }, Kind::Plain);
    }
    match lock.release() {
        Ok(_) => none(),
        // SAFETY: a slot runs attached.
        Err(_) => unsafe { slowly(|_| Err(Kind::Plain.release_error())) },
    }
}

/// The acquisition of an `RLock`.
#[inline(always)]
unsafe fn rlock_take(this: *mut PyObject, patience: impl FnOnce(Python<'_>) -> PyResult<Patience>) -> *mut PyObject {
    // SAFETY: the slots' promise.
    let layout = unsafe { layout(this) };
    let me = ident();
    match layout.lock.try_reenter(me) {
        Ok(true) => return truth(true),
        Ok(false) if !observe::is_on() && layout.lock.try_enter(me) => return truth(true),
        _ => {}
    }
    // SAFETY: a slot runs attached.
    unsafe {
        slowly(|py| match layout.lock.try_reenter(me) {
            Err(TooDeep) => Err(PyOverflowError::new_err("the lock is held too often to count")),
            _ => layout.acquire(py, Kind::Reentrant, patience(py)?).map(truth),
        })
    }
}

/// The release of an `RLock`.
#[inline(always)]
unsafe fn rlock_give(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: the slots' promise.
    let layout = unsafe { layout(this) };
    let me = ident();
    if layout.lock.lock().is_marked() && layout.lock.depth(me) == 1 {
        // SAFETY: a slot runs attached.
        layout.end_of_hold(unsafe { Python::assume_attached() }, Kind::Reentrant);
    }
    match layout.lock.release(me) {
        Ok(_) => none(),
        // SAFETY: a slot runs attached.
        Err(_) => unsafe { slowly(|_| Err(Kind::Reentrant.release_error())) },
    }
}

/// `<locked raceproof.Lock object 'name' at 0x...>`
unsafe fn representation<'py>(py: Python<'py>, this: *mut PyObject, kind: Kind) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the slots' promise.
    let layout = unsafe { layout(this) };
    let lock = layout.lock.lock();
    let state = if lock.is_held() { "locked" } else { "unlocked" };
    // SAFETY: the name is a live `str`, or null.
    let name = unsafe { in_quotes(py, layout.name) };
    let text = match kind {
        Kind::Plain => format!("<{state} raceproof.Lock object {name}at {this:p}>"),
        Kind::Reentrant => {
            let (owner, depth) = (lock.holder().unwrap_or(0), layout.lock.held_depth());
            format!("<{state} raceproof.RLock object {name}owner={owner} count={depth} at {this:p}>")
        }
    };
    Ok(text.into_pyobject(py)?.into_any())
}
