//! The type `AsyncLock`. A call that finds the lock free does not leave this file: `async with` gets an awaitable that
//! is done already. Who must wait as a task goes through `raceproof._async`, which alone knows event loops.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use primitives::async_lock::{AsyncLock, Enlisted, Next, Waiter};
use primitives::lock::Outcome;
use primitives::raw::futex::{Futex, Sleep};
use primitives::raw::thread::ident;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject, visitproc};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBool;

use super::call::{in_quotes, name_argument, result, slowly};
use super::lock::SPINS;
use super::native_type::{NativeType, slot};
use super::patience::Patience;
use super::ready;
use super::sharing;
use super::slots::{forget_weakrefs, free, new_ref, none, or_none, truth};
use crate::observer;
use crate::within::AsyncWithin;

/// How long `async with` spins before it queues: a few microseconds, much less than it takes to wake an event loop.
const TASK_TURNS: u32 = 300;
const THREAD_TURNS: u32 = 100;

/// How to wake who waits.
enum Wake {
    Thread(Futex),
    Task { event_loop: Py<PyAny>, future: Py<PyAny> },
}

#[repr(C)]
struct Layout {
    base: PyObject,
    weak_references: *mut PyObject,
    /// A `str`, or null.
    name: *mut PyObject,
    lock: AsyncLock<Wake>,
}

/// The awaitables that are done with `None` and with `True`.
static READY_NONE: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());
static READY_TRUE: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());

/// Adds `AsyncLock`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    make_ready(module.py())?;
    sharing::pin_class(&module.py().get_type::<Enrolment>());
    NativeType::new::<Layout>(
        c"raceproof.AsyncLock",
        c"AsyncLock(name=None)\n--\n\nMutual exclusion between tasks of any event loop and threads: `async with lock:` and, in a thread, `with lock:`.\n\nIt belongs to no event loop and never blocks one. Who comes while it is free may overtake those that wait, but each of\nthem is passed over once only; then the lock is handed to it. A cancelled task loses neither the lock nor a wake-up.\nAny task or thread may release it. In a forked child it is free if another thread held it.",
    )
    .lifetime(new, dealloc, std::mem::offset_of!(Layout, weak_references))
.collected(traverse, clear)
    .slot(ffi::Py_tp_repr, repr as *mut c_void)
    .no_arguments(c"__aenter__", aenter, c"__aenter__($self, /)\n--\n\nAs acquire(), with the result None.")
    .arguments(c"__aexit__", aexit, c"__aexit__($self, /, *exc_info)\n--\n\nAs release().")
    .no_arguments(c"__enter__", enter, c"__enter__($self, /)\n--\n\nTakes the lock, waiting asleep. RuntimeError instead of a wait in a thread whose event loop runs.")
    .arguments(c"__exit__", exit, c"__exit__($self, /, *exc_info)\n--\n\nAs release().")
    .no_arguments(c"acquire", acquire, c"acquire($self, /)\n--\n\nAn awaitable that takes the lock; its result is True.")
    .no_arguments(c"try_acquire", try_acquire, c"try_acquire($self, /)\n--\n\nTakes the lock if it is free; says whether it did. In tasks and in threads.")
    .no_arguments(c"release", release, c"release($self, /)\n--\n\nGives the lock back, whoever took it. RuntimeError if it is not held.")
    .no_arguments(c"locked", locked, c"locked($self, /)\n--\n\nDoes a task or a thread hold the lock now?")
    .one_argument(c"within", within, c"within($self, timeout, /)\n--\n\n`async with lock.within(0.5):` or `with lock.within(0.5):` waits at most so many seconds, then raises WaitTimeout.")
    .one_argument(c"_acquire_within", acquire_within, c"_acquire_within($self, timeout, /)\n--\n\nThe wait of within(), for a task.")
    .one_argument(c"_acquire_in_thread", acquire_in_thread, c"_acquire_in_thread($self, timeout, /)\n--\n\nThe wait of within(), for a thread.")
    .arguments(c"_enlist", enlist, c"_enlist($self, event_loop, future, before, /)\n--\n\nEnters the queue; None if the lock got free meanwhile and is taken.")
    .property(c"name", get_name, c"The name that was given, or None.")
    .property(c"holder", get_holder, c"The thread on which the holder runs: (identifier, name), or None.")
    .property(c"waiters", get_waiters, c"How many tasks and threads wait for the lock now.")
    .build(module, None)?;
    Ok(())
}

/// Makes the awaitables; they are never freed.
fn make_ready(py: Python<'_>) -> PyResult<()> {
    let done: [(_, Bound<'_, PyAny>); 2] =
        [(&READY_NONE, py.None().into_bound(py)), (&READY_TRUE, PyBool::new(py, true).to_owned().into_any())];
    for (slot, value) in done {
        slot.store(sharing::keep(ready::ready(&value)?).into_ptr(), Release);
    }
    Ok(())
}

fn done(which: &AtomicPtr<PyObject>) -> *mut PyObject {
    new_ref(which.load(Acquire))
}

unsafe fn layout<'a>(this: *mut PyObject) -> &'a Layout {
    // SAFETY: the slots get objects of the type, which have this layout, and live as long as the call.
    unsafe { &*this.cast::<Layout>() }
}

slot! {
    fn new(class: *mut PyTypeObject, arguments: *mut PyObject, named: *mut PyObject) -> *mut PyObject {
        let Ok(name) = name_argument(arguments, named, c"|O:AsyncLock") else {
            return null_mut();
        };
        // No collection can begin before this function returns, so none sees the object half-filled.
        let this = ffi::PyType_GenericAlloc(class, 0);
        if this.is_null() {
            ffi::Py_XDECREF(name);
            return this;
        }
        let layout = this.cast::<Layout>();
        (&raw mut (*layout).name).write(name);
        (&raw mut (*layout).lock).write(AsyncLock::new());
        this
    } else null_mut()

    fn dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        let fields = this.cast::<Layout>();
        forget_weakrefs(this, (*fields).weak_references);
        ffi::Py_XDECREF((*fields).name);
        (&raw mut (*fields).lock).drop_in_place();
        free(this);
    } else ()

    fn traverse(this: *mut PyObject, visit: visitproc, argument: *mut c_void) -> std::ffi::c_int {
        let mut answer = visit(ffi::Py_TYPE(this).cast(), argument);
        // The section of the queue is free or held by a thread that leaves it without the interpreter.
        layout(this).lock.for_each_waiter(|wake| {
            let Wake::Task { event_loop, future } = wake else {
                return;
            };
            for object in [event_loop, future] {
                if answer == 0 {
                    answer = visit(object.as_ptr(), argument);
                }
            }
        });
        answer
    } else 0

    fn clear(this: *mut PyObject) -> std::ffi::c_int {
        drop(layout(this).lock.take_waiters());
        0
    } else 0

    fn aenter(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        take(this, &READY_NONE)
    } else null_mut()

    fn acquire(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        take(this, &READY_TRUE)
    } else null_mut()

    fn acquire_within(this: *mut PyObject, timeout: *mut PyObject) -> *mut PyObject {
        let lock = &layout(this).lock;
        if take_soon(lock, TASK_TURNS) {
            return done(&READY_TRUE);
        }
        slowly(|py| {
            let arguments = (Bound::from_borrowed_ptr(py, this), Bound::from_borrowed_ptr(py, timeout));
            result(glue(py, &ACQUIRE_WITHIN, "acquire_within")?.call1(arguments)?)
        })
    } else null_mut()

    fn acquire_in_thread(this: *mut PyObject, timeout: *mut PyObject) -> *mut PyObject {
        slowly(|py| {
            let timeout_s: f64 = Bound::from_borrowed_ptr(py, timeout).extract()?;
            wait_in_thread(py, &layout(this).lock, Patience::seconds(timeout_s)).map(truth)
        })
    } else null_mut()

    fn try_acquire(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        truth(layout(this).lock.try_acquire(ident()))
    } else null_mut()

    fn enter(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let lock = &layout(this).lock;
        if lock.try_acquire(ident()) {
            return truth(true);
        }
        slowly(|py| wait_in_thread(py, lock, Patience::Endless).map(truth))
    } else null_mut()

    fn aexit(this: *mut PyObject, _arguments: *mut *mut PyObject, _n: Py_ssize_t) -> *mut PyObject {
        give(this, || done(&READY_NONE))
    } else null_mut()

    fn exit(this: *mut PyObject, _arguments: *mut *mut PyObject, _n: Py_ssize_t) -> *mut PyObject {
        give(this, none)
    } else null_mut()

    fn release(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        give(this, none)
    } else null_mut()

    fn locked(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        truth(layout(this).lock.is_held())
    } else null_mut()

    fn within(this: *mut PyObject, timeout: *mut PyObject) -> *mut PyObject {
        slowly(|py| {
            let (lock, timeout) = (Bound::from_borrowed_ptr(py, this), Bound::from_borrowed_ptr(py, timeout));
            result(AsyncWithin::new(&lock, &timeout)?.into_pyobject(py)?)
        })
    } else null_mut()

    fn enlist(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        slowly(|py| {
            if n != 3 {
                return Err(pyo3::exceptions::PyTypeError::new_err("_enlist() takes 3 arguments"));
            }
            let argument = |idx| Bound::from_borrowed_ptr(py, *arguments.add(idx));
            let wake = Wake::Task { event_loop: argument(0).unbind(), future: argument(1).unbind() };
            let before = argument(2).extract::<Option<Bound<'_, Enrolment>>>()?;
            let before = before.as_ref().map(|before| &*before.get().waiter);
            match layout(this).lock.enlist(wake, ident(), before) {
                Enlisted::Acquired => Ok(none()),
                Enlisted::Waiting(waiter) => {
                    let lock = Bound::from_borrowed_ptr(py, this).unbind();
                    result(Enrolment { lock, waiter }.into_pyobject(py)?)
                }
            }
        })
    } else null_mut()

    fn repr(this: *mut PyObject) -> *mut PyObject {
        slowly(|py| {
            let layout = layout(this);
            let state = if layout.lock.is_held() { "locked" } else { "unlocked" };
            let name = in_quotes(py, layout.name);
            let n_waiters = layout.lock.waiters();
            let text = format!("<{state} raceproof.AsyncLock object {name}waiters={n_waiters} at {this:p}>");
            result(text.into_pyobject(py)?)
        })
    } else null_mut()

    fn get_name(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        or_none(layout(this).name)
    } else null_mut()

    fn get_holder(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        slowly(|py| result(observer::thread(py, layout(this).lock.holder())?))
    } else null_mut()

    fn get_waiters(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        ffi::PyLong_FromSize_t(layout(this).lock.waiters())
    } else null_mut()
}

#[inline(always)]
fn take_soon(lock: &AsyncLock<Wake>, n_turns: u32) -> bool {
    let me = ident();
    lock.try_acquire(me) || (SPINS && lock.try_acquire_soon(me, n_turns))
}

/// An awaitable that takes the lock: the one that is done, or a coroutine.
#[inline(always)]
unsafe fn take(this: *mut PyObject, which: &AtomicPtr<PyObject>) -> *mut PyObject {
    // SAFETY: the slots' promise; a slot runs attached.
    unsafe {
        if take_soon(&layout(this).lock, TASK_TURNS) {
            return done(which);
        }
        slowly(|py| result(glue(py, &ACQUIRE, "acquire")?.call1((Bound::from_borrowed_ptr(py, this),))?))
    }
}

static ACQUIRE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ACQUIRE_WITHIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static WAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static IS_LOOP_RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A function of `raceproof._async`.
fn glue<'a, 'py>(py: Python<'py>, slot: &'a PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<&'a Bound<'py, PyAny>> {
    slot.import(py, "raceproof._async", name)
}

/// Waits as a thread does, asleep.
fn wait_in_thread(py: Python<'_>, lock: &AsyncLock<Wake>, patience: Patience) -> PyResult<bool> {
    let me = ident();
    if take_soon(lock, THREAD_TURNS) {
        return Ok(true);
    }
    if glue(py, &IS_LOOP_RUNNING, "is_loop_running")?.call0()?.is_truthy()? {
        let text = "an event loop runs in this thread, which must not wait for an AsyncLock: use `async with`";
        return Err(PyRuntimeError::new_err(text));
    }
    if patience == Patience::Endless && lock.holder() == Some(me) {
        let text = "the AsyncLock is held by this thread, which would wait for itself";
        return Err(observer::deadlock(py, text.to_owned()));
    }
    let mut before: Option<Arc<Waiter<Wake>>> = None;
    loop {
        let waiter = match lock.enlist(Wake::Thread(Futex::new(0)), me, before.as_deref()) {
            Enlisted::Acquired => return Ok(true),
            Enlisted::Waiting(waiter) => waiter,
        };
        let woken = patience.wait(py, |deadline| sleep(&waiter, deadline));
        if lock.resume(&waiter, me) {
            // What a signal handler raised comes out when the lock is given back.
            return match woken {
                Ok(_) => Ok(true),
                Err(raised) => lock.release().map_or(Ok(()), |next| wake(py, lock, next)).and(Err(raised)),
            };
        }
        if !matches!(woken, Ok(true)) {
            wake(py, lock, lock.leave(&waiter))?;
            return woken;
        }
        before = Some(waiter);
    }
}

fn sleep(waiter: &Waiter<Wake>, deadline: Option<Instant>) -> Outcome {
    let Wake::Thread(futex) = &waiter.wake else {
        return Outcome::Acquired;
    };
    while futex.word.load(Acquire) == 0 {
        match futex.sleep(0, deadline) {
            Sleep::Woken => {}
            Sleep::TimedOut => return Outcome::TimedOut,
            Sleep::Interrupted => return Outcome::Interrupted,
        }
    }
    Outcome::Acquired
}

/// Gives the lock back and wakes who is next.
#[inline(always)]
unsafe fn give(this: *mut PyObject, done: impl FnOnce() -> *mut PyObject) -> *mut PyObject {
    // SAFETY: the slots' promise; a slot runs attached.
    unsafe {
        let lock = &layout(this).lock;
        match lock.release() {
            Ok(Next(None)) => done(),
            Ok(next) => slowly(|py| wake(py, lock, next).map(|()| done())),
            Err(_) => slowly(|_| Err(PyRuntimeError::new_err("release unlocked lock"))),
        }
    }
}

/// Wakes the next waiter; one whose loop is closed cannot be woken, and its turn goes on to the one after it. An error
/// of another kind, such as a `KeyboardInterrupt`, is raised when that is done.
fn wake(py: Python<'_>, lock: &AsyncLock<Wake>, next: Next<Wake>) -> PyResult<()> {
    let mut raised = None;
    let mut next = next.0;
    while let Some(waiter) = next {
        let called = match &waiter.wake {
            Wake::Thread(futex) => {
                futex.word.store(1, Release);
                futex.wake_one();
                Ok(true)
            }
            Wake::Task { event_loop, future } => glue(py, &WAKE, "wake")
                .and_then(|wake| wake.call1((event_loop, future)))
                .and_then(|is_woken| is_woken.is_truthy()),
        };
        match called {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => raised = raised.or(Some(error)),
        }
        next = lock.leave(&waiter).0;
    }
    raised.map_or(Ok(()), Err)
}

/// A task in the queue. If it is forgotten, it leaves the queue.
#[pyclass(frozen, module = "raceproof")]
struct Enrolment {
    lock: Py<PyAny>,
    waiter: Arc<Waiter<Wake>>,
}

impl Enrolment {
    fn lock(&self) -> &AsyncLock<Wake> {
        // SAFETY: only `enlist` makes these, for an object with this layout, which is kept alive.
        unsafe { &layout(self.lock.as_ptr()).lock }
    }
}

#[pymethods]
impl Enrolment {
    /// The task was woken: tries to take the lock.
    fn resume(&self) -> bool {
        self.lock().resume(&self.waiter, ident())
    }

    /// The task gives up. What it was given goes to the next.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        wake(py, self.lock(), self.lock().leave(&self.waiter))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.lock)
    }
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        let next = self.lock().leave(&self.waiter);
        if next.0.is_none() {
            return;
        }
        Python::try_attach(|py| {
            if let Err(error) = wake(py, self.lock(), next) {
                error.write_unraisable(py, None);
            }
        });
    }
}
