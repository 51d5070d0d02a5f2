//! Builds Python types with hand-written slots: what a method costs here is one call through a pointer.
//!
//! A slot is written with [`slot!`], which catches a panic and turns it into `RuntimeError`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::refcount;

/// Declares functions of the C interface whose panics become `RuntimeError` and the value after `else`:
/// `slot! { fn length(this: *mut PyObject) -> Py_ssize_t { ... } else -1 }`. The body is unsafe code: CPython promises
/// that the arguments are alive and that the thread is attached.
macro_rules! slot {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident$(<$kind_of:ident: $bound:path>)?($($arg:ident: $kind:ty),* $(,)?) -> $result:ty $body:block else $failed:expr)+) => {$(
        $(#[$meta])*
        #[allow(unused_unsafe)] // a body may do nothing that needs it
        $vis unsafe extern "C" fn $name$(<$kind_of: $bound>)?($($arg: $kind),*) -> $result {
            // SAFETY: only CPython calls this, attached and with live arguments of the type that the slot stands for.
            $crate::raw::native_type::guarded($failed, || unsafe { $body })
        }
    )+};
}
pub(crate) use slot;

/// Runs the body of a slot. A panic in it is a defect of ours: it becomes an exception, and the process goes on.
#[inline(always)]
pub fn guarded<T>(failed: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let text = c"raceproof failed inside; please report this with the traceback";
        // SAFETY: a slot runs attached.
        unsafe { ffi::PyErr_SetString(ffi::PyExc_RuntimeError, text.as_ptr()) };
        failed
    })
}

/// A method without arguments.
pub type NoArguments = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
/// A method with positional arguments only, as an array.
pub type Arguments =
    unsafe extern "C" fn(*mut ffi::PyObject, *mut *mut ffi::PyObject, ffi::Py_ssize_t) -> *mut ffi::PyObject;
/// A method with positional arguments as an array, followed by the values of the named ones in a tuple of names.
pub type Keywords = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
/// The getter of a property.
pub type Getter = unsafe extern "C" fn(*mut ffi::PyObject, *mut c_void) -> *mut ffi::PyObject;

/// A type under construction. Texts are `'static` since CPython keeps the pointers.
pub struct NativeType {
    name: &'static CStr,
    size: usize,
    flags: std::ffi::c_ulong,
    slots: Vec<ffi::PyType_Slot>,
    methods: Vec<ffi::PyMethodDef>,
    members: Vec<ffi::PyMemberDef>,
    properties: Vec<ffi::PyGetSetDef>,
}

impl NativeType {
    /// A type whose objects are a `Layout`: a `#[repr(C)]` struct that begins with a `PyObject` (or with the layout of
    /// the base type; a subclass that adds nothing passes `()`). `name` has the package: `c"raceproof.AtomicInt"`.
    pub fn new<Layout>(name: &'static CStr, doc: &'static CStr) -> Self {
        let new = NativeType {
            name,
            size: size_of::<Layout>(),
            flags: ffi::Py_TPFLAGS_DEFAULT,
            slots: Vec::new(),
            methods: Vec::new(),
            members: Vec::new(),
            properties: Vec::new(),
        };
        new.slot(ffi::Py_tp_doc, doc.as_ptr() as *mut c_void)
    }

    /// Adds flags such as `Py_TPFLAGS_BASETYPE` (can be subclassed) and `Py_TPFLAGS_HAVE_GC`.
    pub fn flags(mut self, flags: std::ffi::c_ulong) -> Self {
        self.flags |= flags;
        self
    }

    /// Fills a slot, such as `Py_tp_new`. `function` has the type that the slot demands.
    pub fn slot(mut self, slot: c_int, function: *mut c_void) -> Self {
        self.slots.push(ffi::PyType_Slot { slot, pfunc: function });
        self
    }

    /// How objects come and go: `tp_new` and `tp_dealloc`, and where in the layout the list of weak references stands.
    pub fn lifetime(self, new: ffi::newfunc, dealloc: ffi::destructor, weakrefs: usize) -> Self {
        self.offset(c"__weaklistoffset__", weakrefs)
            .slot(ffi::Py_tp_new, new as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
    }

    /// How the garbage collector looks through objects: `tp_traverse` and `tp_clear`.
    pub fn collected(self, traverse: ffi::traverseproc, clear: ffi::inquiry) -> Self {
        self.flags(ffi::Py_TPFLAGS_HAVE_GC)
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
    }

    /// Adds a method; `doc` begins with the signature: `c"add($self, n, /)\n--\n\nWhat it does."`.
    pub fn no_arguments(self, name: &'static CStr, function: NoArguments, doc: &'static CStr) -> Self {
        self.method(name, ffi::PyMethodDefPointer { PyCFunction: function }, ffi::METH_NOARGS, doc)
    }

    /// Adds a method with one positional argument.
    pub fn one_argument(self, name: &'static CStr, function: NoArguments, doc: &'static CStr) -> Self {
        self.method(name, ffi::PyMethodDefPointer { PyCFunction: function }, ffi::METH_O, doc)
    }

    /// Adds a method with positional arguments.
    pub fn arguments(self, name: &'static CStr, function: Arguments, doc: &'static CStr) -> Self {
        self.method(name, ffi::PyMethodDefPointer { PyCFunctionFast: function }, ffi::METH_FASTCALL, doc)
    }

    /// Adds a method with positional and named arguments.
    pub fn keywords(self, name: &'static CStr, function: Keywords, doc: &'static CStr) -> Self {
        let pointer = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
        self.method(name, pointer, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)
    }

    /// Adds a class method with positional arguments: the function gets the class as its first argument.
    pub fn class_arguments(self, name: &'static CStr, function: Arguments, doc: &'static CStr) -> Self {
        let pointer = ffi::PyMethodDefPointer { PyCFunctionFast: function };
        self.method(name, pointer, ffi::METH_FASTCALL | ffi::METH_CLASS, doc)
    }

    fn method(
        mut self,
        name: &'static CStr,
        ml_meth: ffi::PyMethodDefPointer,
        ml_flags: c_int,
        doc: &'static CStr,
    ) -> Self {
        self.methods.push(ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags, ml_doc: doc.as_ptr() });
        self
    }

    /// Adds a property that can be read.
    pub fn property(mut self, name: &'static CStr, getter: Getter, doc: &'static CStr) -> Self {
        self.properties.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter),
            set: None,
            doc: doc.as_ptr(),
            closure: null_mut(),
        });
        self
    }

    /// Says at which offset of the layout a special word stands: `c"__weaklistoffset__"`, `c"__dictoffset__"`,
    /// `c"__vectorcalloffset__"`.
    pub fn offset(mut self, name: &'static CStr, offset: usize) -> Self {
        self.members.push(ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: std::ptr::null::<c_char>(),
        });
        self
    }

    /// Makes the type and adds it to the module.
    pub fn build<'py>(
        self,
        module: &Bound<'py, PyModule>,
        base: Option<&Bound<'py, PyType>>,
    ) -> PyResult<Bound<'py, PyType>> {
        let made = self.make(module.py(), base)?;
        module.add(made.name()?, &made)?;
        Ok(made)
    }

    /// Makes the type. It lives as long as the process, so its reference count is switched off: making its objects in
    /// two threads at once does not meet on it.
    pub fn make<'py>(mut self, py: Python<'py>, base: Option<&Bound<'py, PyType>>) -> PyResult<Bound<'py, PyType>> {
        // SAFETY: all-zero is the end mark of these tables.
        unsafe {
            self.methods.push(std::mem::zeroed());
            self.members.push(std::mem::zeroed());
            self.properties.push(std::mem::zeroed());
        }
        // CPython keeps pointers into the tables as long as the type lives: for good.
        let methods = self.methods.leak().as_mut_ptr();
        let members = self.members.leak().as_mut_ptr();
        let properties = self.properties.leak().as_mut_ptr();
        self.slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_methods, pfunc: methods.cast() });
        self.slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_members, pfunc: members.cast() });
        self.slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_getset, pfunc: properties.cast() });
        self.slots.push(ffi::PyType_Slot { slot: 0, pfunc: null_mut() });
        let mut spec = ffi::PyType_Spec {
            name: self.name.as_ptr(),
            basicsize: self.size as c_int,
            itemsize: 0,
            flags: self.flags as std::ffi::c_uint,
            slots: self.slots.as_mut_ptr(),
        };
        let base = base.map_or(null_mut(), |base| base.as_ptr());
        // SAFETY: the spec and its tables are complete, each ends with its mark, and the tables are never freed.
        let made = unsafe {
            let made = ffi::PyType_FromSpecWithBases(&mut spec, base);
            Bound::from_owned_ptr_or_err(py, made)?
        };
        // SAFETY: this thread made the type, and no other has seen it yet.
        unsafe { refcount::immortalize(made.as_ptr()) };
        Ok(made.cast_into::<PyType>()?)
    }
}
