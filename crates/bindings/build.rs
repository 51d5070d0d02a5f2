//! Tells the compiler which Python this build is for: `Py_GIL_DISABLED`, `Py_3_14` and the like.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
