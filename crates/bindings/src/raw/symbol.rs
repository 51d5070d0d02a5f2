//! Functions of CPython that are exported but not in its headers for extensions: used where they are, with another way
//! where they are not.

use std::ffi::{CStr, c_void};

/// The address of an exported function of this process.
pub fn find(name: &CStr) -> Option<*mut c_void> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        unsafe extern "C" {
            fn dlsym(handle: *mut c_void, name: *const std::ffi::c_char) -> *mut c_void;
        }
        /// `RTLD_DEFAULT`: everything that is loaded.
        const EVERYTHING: isize = if cfg!(target_os = "macos") { -2 } else { 0 };
        // SAFETY: the handle is the one for everything, and the name ends with a zero.
        let found = unsafe { dlsym(EVERYTHING as *mut c_void, name.as_ptr()) };
        if found.is_null() { None } else { Some(found) }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = name;
        None
    }
}
