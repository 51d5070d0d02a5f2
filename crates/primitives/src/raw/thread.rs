//! Which thread is this? The number is the one that Python's `threading.get_ident()` returns, and never 0.

/// The number of the calling thread. A thread that starts after another has ended may get the same number.
#[inline(always)]
pub fn ident() -> usize {
    imp::ident()
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
mod imp {
    #[inline(always)]
    pub fn ident() -> usize {
        let ident: usize;
        // SAFETY: the word at fs:0 is the thread's own control block (System V ABI, TLS variant II), whose address is
        // what `pthread_self` returns.
        unsafe { std::arch::asm!("mov {}, fs:0", out(reg) ident, options(nostack, pure, readonly, preserves_flags)) };
        ident
    }
}

#[cfg(all(unix, not(all(target_os = "linux", target_arch = "x86_64", not(miri)))))]
mod imp {
    pub fn ident() -> usize {
        // SAFETY: it has no conditions.
        unsafe { libc::pthread_self() as usize }
    }
}

#[cfg(windows)]
mod imp {
    unsafe extern "system" {
        fn GetCurrentThreadId() -> u32;
    }

    pub fn ident() -> usize {
        // SAFETY: it has no conditions.
        unsafe { GetCurrentThreadId() as usize }
    }
}

#[cfg(all(test, unix, not(feature = "model")))]
mod tests {
    #[test]
    fn it_is_what_the_system_calls_the_thread() {
        let check = || {
            // SAFETY: it has no conditions.
            let expected = unsafe { libc::pthread_self() } as usize;
            assert_eq!(super::ident(), expected);
            expected
        };
        let here = check();
        let there = std::thread::spawn(check).join().expect("the thread ends");
        assert_ne!(here, there);
    }
}
