//! Critical sections: the lock that CPython keeps in each object of a free-threaded build.
//!
//! A section is given up whenever its thread detaches, so it cannot deadlock, and it cannot be nested on one object
//! without being given up (CPython 3.13). So its body here neither runs Python code nor enters another section of the
//! same object: it reads and writes memory, counts references, and makes objects of built-in types.

use pyo3::ffi::PyObject;

/// Runs `body` while no other thread changes `object` through CPython's own functions. With a GIL that is so anyway.
///
/// # Safety
/// `object` is alive, the caller is attached, and `body` keeps to what the module says.
#[inline(always)]
pub unsafe fn locked<R>(object: *mut PyObject, body: impl FnOnce() -> R) -> R {
    #[cfg(Py_GIL_DISABLED)]
    {
        use std::mem::MaybeUninit;

        use pyo3::ffi::{PyCriticalSection, PyCriticalSection_Begin, PyCriticalSection_End};

        struct Section(MaybeUninit<PyCriticalSection>);
        impl Drop for Section {
            fn drop(&mut self) {
                // SAFETY: it was begun below, and has not moved since.
                unsafe { PyCriticalSection_End(self.0.as_mut_ptr()) };
            }
        }
        let mut section = Section(MaybeUninit::uninit());
        // SAFETY: the caller's promise; `section` stays where it is until it is dropped, also if `body` panics.
        unsafe { PyCriticalSection_Begin(section.0.as_mut_ptr(), object) };
        body()
    }
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        body()
    }
}
