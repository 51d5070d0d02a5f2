//! Keeps threads that wake each other on one processor: a wake-up across processors costs tens of microseconds.

/// Pins this thread to one processor, the same for all threads of the process.
pub fn to_one_cpu() {
    #[cfg(target_os = "linux")]
    // SAFETY: the sets are plain memory of ours, and the calls concern this thread alone.
    unsafe {
        use std::mem::{MaybeUninit, size_of};
        static CHOSEN: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let mut allowed: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed) != 0 {
            return;
        }
        let first = || (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &allowed)).unwrap_or(0);
        let cpu = *CHOSEN.get_or_init(first);
        let mut one: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut one);
        // Where it is not allowed the runs are slower, and right.
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one);
    }
}

/// The processors that this thread may use; they are given back when this is dropped.
pub struct Pinned {
    #[cfg(target_os = "linux")]
    before: libc::cpu_set_t,
}

impl Pinned {
    /// Pins this thread for as long as the value lives.
    pub fn new() -> Pinned {
        #[cfg(target_os = "linux")]
        // SAFETY: as above.
        let pinned = unsafe {
            let mut before: libc::cpu_set_t = std::mem::MaybeUninit::zeroed().assume_init();
            libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut before);
            Pinned { before }
        };
        #[cfg(not(target_os = "linux"))]
        let pinned = Pinned {};
        to_one_cpu();
        pinned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: as above.
        unsafe {
            libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &self.before);
        }
    }
}
