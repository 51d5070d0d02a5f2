//! What a watched thread keeps for itself, and a cache of the accesses that need no second look.

use std::cell::Cell;
use std::ptr::null_mut;

use detect::Stack;
use detect::memory::Conflict;
use detect::thread::Watcher;

use super::codes::Met;
use super::stacks::Lately;

const CACHE: usize = 4096;

/// An access that was looked at.
#[derive(Clone, Copy, Default)]
struct Entry {
    object: usize,
    part: u64,
    stamp: u32,
    generation: u32,
}

/// See the module.
pub struct Me {
    /// Its clocks and locks.
    pub watcher: Watcher,
    cache: Box<[Entry; CACHE]>,
    /// The code that it was in last.
    pub code: (usize, Option<&'static Met>),
    /// Its stacks.
    pub stacks: Lately,
    /// What hurts, before it is handed on.
    pub found: Vec<Conflict>,
    /// Does it wait for a lock that it holds?
    pub waits_for_own: bool,
}

thread_local! {
    static ME: Cell<*mut Me> = const { Cell::new(null_mut()) };
    /// Is somebody looking at it? Python code that runs meanwhile, as a finaliser may, is not watched.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// For as long as this lives, nobody else looks at what this thread keeps.
pub struct Busy(());

impl Busy {
    /// Nothing if somebody looks already.
    #[inline(always)]
    pub fn enter() -> Option<Busy> {
        (!IS_BUSY.replace(true)).then_some(Busy(()))
    }
}

impl Drop for Busy {
    #[inline(always)]
    fn drop(&mut self) {
        IS_BUSY.set(false);
    }
}

impl Me {
    /// Where the cache keeps an access.
    #[inline(always)]
    fn entry(&mut self, object: usize, part: u64) -> &mut Entry {
        let mixed =
            ((object as u64 >> 4) ^ part.wrapping_mul(0x2545_F491_4F6C_DD1D)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &mut self.cache[(mixed >> 52) as usize % CACHE]
    }

    /// Was the access looked at since the thread heard, took or gave something?
    #[inline(always)]
    pub fn is_known(&mut self, object: usize, part: u64, generation: u32) -> bool {
        let stamp = self.watcher.stamp;
        let entry = self.entry(object, part);
        entry.object == object && entry.part == part && entry.stamp == stamp && entry.generation == generation
    }

    /// It is looked at now.
    pub fn know(&mut self, object: usize, part: u64, generation: u32) {
        let stamp = self.watcher.stamp;
        *self.entry(object, part) = Entry { object, part, stamp, generation };
    }

    /// The number of the stack that the thread is in.
    pub fn stack(&mut self) -> Stack {
        stack_of(&mut self.stacks)
    }
}

/// The number of the stack that this thread is in.
pub fn stack_of(stacks: &mut Lately) -> Stack {
    // SAFETY: threads are watched only where the self-test has passed, and whoever asks is attached.
    unsafe { stacks.number(None) }
}

/// This thread, if it is watched; only for whoever has entered [`Busy`].
#[inline(always)]
pub fn pointer() -> *mut Me {
    ME.get()
}

/// Looks at this thread, if it is watched and nobody looks already. Runs no Python code inside.
pub fn with<R>(look: impl FnOnce(&mut Me) -> R) -> Option<R> {
    let me = ME.get();
    if me.is_null() {
        return None;
    }
    let _busy = Busy::enter()?;
    // SAFETY: this thread's own, which nothing ends meanwhile, and nobody else looks at it.
    Some(look(unsafe { &mut *me }))
}

/// This thread is watched from now on; false if it was already.
pub fn begin(make: impl FnOnce() -> Watcher) -> bool {
    if !ME.get().is_null() {
        return false;
    }
    let me = Me {
        watcher: make(),
        cache: Box::new([Entry::default(); CACHE]),
        code: (0, None),
        stacks: Lately::default(),
        found: Vec::new(),
        waits_for_own: false,
    };
    ME.set(Box::into_raw(Box::new(me)));
    true
}

/// This thread is no longer watched.
pub fn end() -> Option<Watcher> {
    let me = ME.replace(null_mut());
    // SAFETY: it was made by `begin` of this thread, and the place is empty now.
    (!me.is_null()).then(|| unsafe { Box::from_raw(me) }.watcher)
}
