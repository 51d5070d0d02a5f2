//! A hash table whose readers and updaters take no lock: the algorithm behind [`crate::map`] and behind the maps of
//! Python objects in `bindings`.
//!
//! The table is cut into shards. A shard has *entries* (a key and a [`Cell`] with the value) in chunks that never move
//! and are never given back before the table is, and an *index*: an open hash table of words, each the upper half of
//! the hash (the tag) and the number of an entry. A reader walks the index, compares tags, then keys, and reads the
//! cell. Who changes the value of a key that is there works on the cell alone. Only who adds or removes a key, or makes
//! a larger index, takes the shard's lock, for a few instructions in which no foreign code runs: keys are compared
//! before, and under the lock it is only asked whether a key with an equal tag has come since.
//!
//! What is removed (an entry with its key, an index that was outgrown) is used again only when nobody can still be
//! looking at it. How that is known is the affair of [`Epochs`]: readers do whatever its windows demand, which may be
//! nothing at all.
//!
//! Promised: while a window is open, the entries found in it keep their keys; a cell that is dead stays dead; a key is
//! in the table at most once. Memory grows with the largest number of keys that were in the table at one time, plus
//! what waits for its epoch: normally an eighth of that or a thousand entries, at most as many as keys or 65536.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::index::{Index, Place};
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Racy};

/// How many entries the first chunk of a shard has; each further chunk has twice as many as the one before.
const FIRST_CHUNK: usize = if cfg!(feature = "model") { 2 } else { 16 };
const N_CHUNKS: usize = if cfg!(feature = "model") { 3 } else { 28 };
/// Removed entries wait for their epoch in batches of this size.
const BATCH: usize = if cfg!(feature = "model") { 1 } else { 32 };
/// So many removed entries in all shards are worth urging for, and so many more than are left to wait.
const N_WAITING: usize = 1 << 10;
const N_WAITING_MAX: usize = 1 << 16;
/// The smallest index.
const N_SLOTS_MIN: usize = if cfg!(feature = "model") { 2 } else { 8 };
/// An outgrown index of this many bytes is worth urging for.
const LARGE_BYTES: usize = 256 << 10;

/// Says when nobody can still be looking at what was taken out of a table.
///
/// # Safety
/// If [`is_past`](Epochs::is_past) says yes to a mark, then every window that was open when the mark was made has been
/// closed, or is found not to be [`is_open`](Epochs::is_open), and what was done in it happened before.
pub unsafe trait Epochs {
    /// A stretch of one thread's work in which references into a table may be held.
    type Window;
    /// A moment.
    type Mark;
    /// What shards are locked with.
    type Lock: Lock;

    /// May references that were got in this window still be used? A window may close by itself only in what the
    /// implementor names: never in the functions of this module, except while they wait for a lock, and in `urge`.
    fn is_open(window: &Self::Window) -> bool;
    /// This moment. Called under a lock of a shard, so it must not run foreign code.
    fn mark(window: &Self::Window) -> Self::Mark;
    /// Have all windows closed that were open at that moment?
    fn is_past(mark: &Self::Mark) -> bool;
    /// Much waits for its epoch: brings it about, unless that is thought too dear now and it is not `pressing`. Says
    /// whether anything was done. May close the window.
    fn urge(window: &Self::Window, pressing: bool) -> bool;
}

/// A lock that is held for a few instructions.
///
/// # Safety
/// Between `lock` and `unlock` of one thread no other returns from `lock`.
pub unsafe trait Lock: Default {
    /// Waits until the lock is free, and takes it.
    fn lock(&self);
    /// Gives it back.
    fn unlock(&self);
}

/// The value of an entry: one word that may be changed by whoever finds the entry.
///
/// # Safety
/// Memory of zeros is a dead cell, `is_dead` and `revive` are atomic (acquire and release), and dropping a cell drops
/// the value in it, if there is one.
pub unsafe trait Cell {
    /// What a value is brought in.
    type Value;
    /// Has the key of this entry been removed?
    fn is_dead(&self) -> bool;
    /// Puts the first value into a dead cell that only this thread can see.
    fn revive(&self, value: Self::Value);
    /// A dead cell.
    fn dead() -> Self;
}

/// A key and the cell of its value.
pub struct Entry<K, C> {
    key: Racy<MaybeUninit<K>>,
    cell: C,
}

/// What a comparison says of a key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is the key that is looked for.
    Same,
    /// It is another.
    Other,
    /// The search must end: the comparison failed, or it has closed the window.
    Stop,
}

/// An entry that was found, with its key.
pub struct Found<'w, K, C> {
    /// The key that is in the table.
    pub key: &'w K,
    /// The cell of its value, which may be dead by now.
    pub cell: &'w C,
    number: u32,
    hash: Hash,
}

/// How a search ended.
pub enum Search<'w, K, C> {
    /// The key has an entry.
    Found(Found<'w, K, C>),
    /// At some moment during the search the key was not in the table.
    Absent,
    /// The comparison said [`Answer::Stop`].
    Stopped,
}

/// The entries that a search has compared with its key, and found to have others.
#[derive(Debug, Default)]
pub struct Others(Vec<u32>);

/// How a removal ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal<T> {
    /// The key is out of the table; this is what was taken from the cell.
    Removed(T),
    /// Nothing was taken.
    Kept,
    /// The window closed during the wait for the lock: search again.
    Reopen,
}

/// A hash with its bits mixed: the upper half is the tag and the place in the index, the lower half says which shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// Mixes a hash that may be as bad as the number itself.
    #[inline(always)]
    pub fn new(hash: u64) -> Hash {
        // A multiplication whose two halves are folded: each bit of the hash reaches bits all over the result.
        let product = u128::from(hash ^ 0x243F_6A88_85A3_08D3) * 0x9E37_79B9_7F4A_7C15;
        Hash(product as u64 ^ (product >> 64) as u64)
    }

    #[inline(always)]
    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

enum Retired {
    Entries(Vec<u32>),
    Index(Index),
}

/// What only the holder of the lock touches.
struct Book<M> {
    /// Slots of the index that are not empty.
    n_used: usize,
    free: Vec<u32>,
    n_waiting: usize,
    leaving: Vec<u32>,
    retired: VecDeque<(M, Retired)>,
}

/// Readers touch the first half, which seldom changes; who adds or removes keys touches the second.
#[repr(C, align(128))]
struct Shard<K, C, E: Epochs> {
    index: AtomicPtr<u8>,
    chunks: [AtomicPtr<Entry<K, C>>; N_CHUNKS],
    lock: Padded<E::Lock>,
    n_live: AtomicUsize,
    /// Entries from this number on were never used.
    n_fresh: AtomicU32,
    book: Racy<Book<E::Mark>>,
}

#[derive(Default)]
#[repr(align(64))]
struct Padded<L>(L);

/// The table. See the page of this module.
pub struct Table<K, C, E: Epochs> {
    shards: Box<[Shard<K, C, E>]>,
}

// SAFETY: entries are shared by reference and moved only by who owns the table or after their epoch; the book is
// touched under the lock only. A mark may be looked at by any thread.
unsafe impl<K: Send + Sync, C: Send + Sync, E: Epochs<Mark: Send, Lock: Sync>> Sync for Table<K, C, E> {}
// SAFETY: as above; the table owns all that it points to.
unsafe impl<K: Send, C: Send, E: Epochs<Mark: Send, Lock: Send>> Send for Table<K, C, E> {}

/// A position in the walk over all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    entry: u32,
}

impl Cursor {
    /// The position as a number.
    pub fn pack(self) -> u64 {
        (self.shard as u64) << 32 | u64::from(self.entry)
    }

    /// The position of a number that came from [`pack`](Self::pack).
    pub fn unpack(packed: u64) -> Cursor {
        Cursor { shard: (packed >> 32) as usize, entry: packed as u32 }
    }
}

struct Held<'a, L: Lock>(&'a L);

impl<L: Lock> Drop for Held<'_, L> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// In which chunk an entry is, and where.
#[inline(always)]
fn chunk_of(number: u32) -> (usize, usize) {
    let from_first = number as usize + FIRST_CHUNK;
    let chunk = (from_first.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    (chunk, from_first - (FIRST_CHUNK << chunk))
}

impl<K, C: Cell, E: Epochs> Shard<K, C, E> {
    fn new() -> Self {
        Shard {
            index: AtomicPtr::new(null_mut()),
            chunks: std::array::from_fn(|_| AtomicPtr::new(null_mut())),
            lock: Padded::default(),
            n_live: AtomicUsize::new(0),
            n_fresh: AtomicU32::new(0),
            book: Racy::new(Book {
                n_used: 0,
                free: Vec::new(),
                n_waiting: 0,
                leaving: Vec::new(),
                retired: VecDeque::new(),
            }),
        }
    }

    fn hold(&self) -> Held<'_, E::Lock> {
        self.lock.0.lock();
        Held(&self.lock.0)
    }

    /// The entry with this number, which is in the index or below `n_fresh`.
    #[inline(always)]
    fn entry(&self, number: u32) -> &Entry<K, C> {
        let (chunk, at) = chunk_of(number);
        // SAFETY: the number was seen in the index or below `n_fresh`, and both are written after the chunk; chunks
        // live as long as the shard.
        unsafe { &*self.chunks.get_unchecked(chunk).load(Acquire).add(at) }
    }

    fn add_chunk(&self, chunk: usize) {
        if !self.chunks[chunk].load(Relaxed).is_null() {
            return;
        }
        let layout = chunk_layout::<K, C>(chunk);
        // SAFETY: the layout is not empty: a cell is at least a word.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<Entry<K, C>>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        #[cfg(feature = "model")]
        for at in 0..FIRST_CHUNK << chunk {
            // SAFETY: the memory is ours; the atomics of the model are not made of zeros.
            unsafe { memory.add(at).write(Entry { key: Racy::new(MaybeUninit::uninit()), cell: C::dead() }) };
        }
        self.chunks[chunk].store(memory, Release);
    }

    /// A number for a new entry, whose key is not there (any more). Under the lock.
    fn take_number(&self, book: &mut Book<E::Mark>, dropped: &mut Vec<K>) -> u32 {
        if book.free.is_empty() && book.n_waiting > 0 {
            self.reclaim(book, dropped);
        }
        if let Some(number) = book.free.pop() {
            return number;
        }
        let number = self.n_fresh.load(Relaxed);
        assert!(number < u32::MAX - 1, "a shard holds at most 2^32 - 2 keys");
        self.add_chunk(chunk_of(number).0);
        self.n_fresh.store(number + 1, Release);
        number
    }

    /// Takes back what nobody can be looking at any more. The keys are dropped by the caller, after the lock.
    fn reclaim(&self, book: &mut Book<E::Mark>, dropped: &mut Vec<K>) {
        while let Some((mark, _)) = book.retired.front()
            && E::is_past(mark)
            && let Some((_, retired)) = book.retired.pop_front()
        {
            match retired {
                Retired::Entries(numbers) => {
                    for number in numbers {
                        // SAFETY: the entry was removed, and all windows in which it could be seen have closed.
                        let key = self.entry(number).key.with_mut(|key| unsafe { (*key).assume_init_read() });
                        dropped.push(key);
                        book.n_waiting -= 1;
                        book.free.push(number);
                    }
                }
                // SAFETY: nobody sees it any more, and it was in the shard once only.
                Retired::Index(index) => unsafe { index.free() },
            }
        }
    }

    /// The index, if a key was ever added.
    ///
    /// # Safety
    /// The lock is held, or the handle is used only while a window is open.
    #[inline(always)]
    unsafe fn index(&self) -> Option<Index> {
        // SAFETY: the pointer came from an index, which lives until all windows have closed in which it was the shard's.
        unsafe { Index::from_raw(self.index.load(Acquire)) }
    }

    /// The index with room for one more key, and whether a large one was outgrown. Under the lock.
    fn make_room(&self, window: &E::Window, book: &mut Book<E::Mark>) -> (Index, bool) {
        // SAFETY: the lock is held.
        let old = unsafe { self.index() };
        if let Some(old) = old
            && (book.n_used + 1) * 3 <= old.n_slots() * 2
        {
            return (old, false);
        }
        let n_live = self.n_live.load(Relaxed);
        let new = Index::new(((n_live + 1) * 2).max(N_SLOTS_MIN).next_power_of_two());
        if let Some(old) = old {
            new.fill(old);
        }
        book.n_used = n_live;
        self.index.store(new.into_raw(), Release);
        let Some(old) = old else { return (new, false) };
        book.retired.push_back((E::mark(window), Retired::Index(old)));
        (new, old.n_slots() * size_of::<u64>() >= LARGE_BYTES)
    }
}

fn chunk_layout<K, C>(chunk: usize) -> Layout {
    Layout::array::<Entry<K, C>>(FIRST_CHUNK << chunk).expect("a chunk fits into memory")
}

impl<K, C: Cell, E: Epochs> Table<K, C, E> {
    /// An empty table of `n_shards` shards, rounded up to a power of two.
    pub fn new(n_shards: usize) -> Self {
        Table { shards: (0..n_shards.max(1).next_power_of_two()).map(|_| Shard::new()).collect() }
    }

    /// How many shards there are.
    pub fn n_shards(&self) -> usize {
        self.shards.len()
    }

    /// How many keys there are: each shard's number at the moment when it is looked at.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.n_live.load(Relaxed)).sum()
    }

    /// Are there no keys?
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.n_live.load(Relaxed) == 0)
    }

    #[inline(always)]
    fn shard(&self, hash: Hash) -> &Shard<K, C, E> {
        // SAFETY: the number of shards is a power of two, so the mask keeps the number below it.
        unsafe { self.shards.get_unchecked(hash.0 as usize & (self.shards.len() - 1)) }
    }

    /// Looks for a key. `compare` is called with keys whose tag is that of `hash`, and may run foreign code.
    #[inline(always)]
    pub fn find<'w>(
        &'w self,
        window: &'w E::Window,
        hash: Hash,
        compare: impl FnMut(&'w K, &'w C) -> Answer,
    ) -> Search<'w, K, C> {
        self.search(window, hash, compare, |_| {})
    }

    /// As [`find`](Self::find), and notes which keys were others, for [`insert`](Self::insert).
    #[inline(always)]
    pub fn find_noting<'w>(
        &'w self,
        window: &'w E::Window,
        hash: Hash,
        others: &mut Others,
        compare: impl FnMut(&'w K, &'w C) -> Answer,
    ) -> Search<'w, K, C> {
        others.0.clear();
        self.search(window, hash, compare, |number| others.0.push(number))
    }

    #[inline(always)]
    fn search<'w>(
        &'w self,
        _window: &'w E::Window,
        hash: Hash,
        mut compare: impl FnMut(&'w K, &'w C) -> Answer,
        mut note: impl FnMut(u32),
    ) -> Search<'w, K, C> {
        let shard = self.shard(hash);
        // SAFETY: the window is open, and `compare` stops the walk if it has closed it.
        let Some(index) = (unsafe { shard.index() }) else { return Search::Absent };
        let mut places = index.walk(hash.tag());
        loop {
            match places.next_tagged() {
                Place::Empty => return Search::Absent,
                Place::Entry(number) => {
                    let entry = shard.entry(number);
                    // SAFETY: the entry was in the index during this window, so it keeps its key to the window's end.
                    let key = entry.key.with(|key| unsafe { (*key).assume_init_ref() });
                    match compare(key, &entry.cell) {
                        Answer::Same => return Search::Found(Found { key, cell: &entry.cell, number, hash }),
                        Answer::Other => note(number),
                        Answer::Stop => return Search::Stopped,
                    }
                }
            }
        }
    }

    /// Adds a key that a search in the same window did not find, or found dead. `others` are those of that search.
    ///
    /// # Errors
    /// Gives key and value back if the key may have been added since: there is one with the same tag that is not among
    /// `others`. Search again.
    pub fn insert(
        &self,
        window: &E::Window,
        hash: Hash,
        others: &Others,
        key: K,
        value: C::Value,
    ) -> Result<(), (K, C::Value)> {
        let shard = self.shard(hash);
        let mut dropped = Vec::new();
        let held = shard.hold();
        // Numbers of entries mean the same keys only as long as the window is open.
        let others = if E::is_open(window) { &others.0[..] } else { &[] };
        let urge = shard.book.with_mut(|book| {
            // SAFETY: the lock is held.
            let book = unsafe { &mut *book };
            let (index, is_large) = shard.make_room(window, book);
            let Some((slot, was_empty)) = index.vacancy(hash.tag(), others) else {
                return Err((key, value));
            };
            let number = shard.take_number(book, &mut dropped);
            let entry = shard.entry(number);
            // SAFETY: nobody sees the entry: it was never used, or its epoch is past.
            entry.key.with_mut(|place| unsafe { (*place).write(key) });
            entry.cell.revive(value);
            index.occupy(slot, hash.tag(), number);
            book.n_used += usize::from(was_empty);
            let n_live = shard.n_live.load(Relaxed) + 1;
            shard.n_live.store(n_live, Relaxed);
            Ok(self.urge(book.n_waiting, n_live, is_large))
        })?;
        drop(held);
        drop(dropped);
        if let Some(pressing) = urge
            && E::urge(window, pressing)
        {
            self.sweep(hash);
        }
        Ok(())
    }

    /// Is it time to urge, given how much waits in a shard beside how many keys, and is it pressing?
    fn urge(&self, n_waiting: usize, n_live: usize, is_large: bool) -> Option<bool> {
        let share = |n: usize| (n / self.shards.len()).max(2 * BATCH);
        let is_pressing = n_waiting > share(N_WAITING_MAX).max(n_live);
        let is_due = is_large || n_waiting > share(N_WAITING).max(n_live / 8);
        is_due.then_some(is_pressing)
    }

    /// Takes back what can be taken back in one shard.
    #[cold]
    fn sweep(&self, hash: Hash) {
        let shard = self.shard(hash);
        let mut dropped = Vec::new();
        let held = shard.hold();
        // SAFETY: the lock is held.
        shard.book.with_mut(|book| shard.reclaim(unsafe { &mut *book }, &mut dropped));
        drop(held);
        drop(dropped);
    }

    /// Removes a key that was found in this window. `take` kills the cell, or says that it is dead or to be kept; it is
    /// called under the lock, so it must run no foreign code.
    pub fn remove<T>(
        &self,
        window: &E::Window,
        found: &Found<'_, K, C>,
        take: impl FnOnce(&K, &C) -> Option<T>,
    ) -> Removal<T> {
        let shard = self.shard(found.hash);
        let _held = shard.hold();
        if !E::is_open(window) {
            return Removal::Reopen;
        }
        let Some(taken) = take(found.key, found.cell) else { return Removal::Kept };
        shard.book.with_mut(|book| {
            // SAFETY: the lock is held.
            let (book, index) = unsafe { (&mut *book, shard.index()) };
            if let Some(index) = index {
                index.vacate(found.hash.tag(), found.number);
            }
            shard.n_live.store(shard.n_live.load(Relaxed) - 1, Relaxed);
            book.leave::<E>(found.number, window);
        });
        Removal::Removed(taken)
    }

    /// The next entry whose cell is not dead, from `cursor` on, which moves behind it. A walk shows each key that stays
    /// in the table from its beginning to its end once; keys that come or go meanwhile it may or may not show.
    pub fn next<'w>(&'w self, _window: &'w E::Window, cursor: &mut Cursor) -> Option<(&'w K, &'w C)> {
        while let Some(shard) = self.shards.get(cursor.shard) {
            let n_fresh = shard.n_fresh.load(Acquire);
            while cursor.entry < n_fresh {
                let number = cursor.entry;
                cursor.entry += 1;
                let entry = shard.entry(number);
                if !entry.cell.is_dead() {
                    // SAFETY: the cell was revived after the key was written, and keeps it to the window's end.
                    let key = entry.key.with(|key| unsafe { (*key).assume_init_ref() });
                    return Some((key, &entry.cell));
                }
            }
            *cursor = Cursor { shard: cursor.shard + 1, entry: 0 };
        }
        None
    }

    /// Removes all keys, shard by shard, each in one step. `take` kills a cell and says what was in it; it runs under
    /// the lock, so it must run no foreign code. What was taken in a shard goes to `drop`, after the lock, which may
    /// close the window.
    pub fn clear<T>(
        &self,
        mut window: impl FnMut() -> E::Window,
        mut take: impl FnMut(&K, &C) -> Option<T>,
        mut drop: impl FnMut(Vec<T>),
    ) {
        for shard in &self.shards {
            let mut taken = Vec::with_capacity(shard.n_live.load(Relaxed));
            let held = shard.hold();
            let window = window();
            shard.book.with_mut(|book| {
                // SAFETY: the lock is held.
                let (book, index) = unsafe { (&mut *book, shard.index()) };
                let Some(index) = index else { return };
                for number in 0..shard.n_fresh.load(Relaxed) {
                    let entry = shard.entry(number);
                    if !entry.cell.is_dead() {
                        // SAFETY: a living entry has its key.
                        let key = entry.key.with(|key| unsafe { (*key).assume_init_ref() });
                        taken.extend(take(key, &entry.cell));
                        book.leave::<E>(number, &window);
                    }
                }
                shard.index.store(null_mut(), Release);
                book.retired.push_back((E::mark(&window), Retired::Index(index)));
                book.n_used = 0;
                shard.n_live.store(0, Relaxed);
            });
            std::mem::drop(held);
            drop(taken);
        }
    }

    /// Shows all entries that are not dead, without a window.
    ///
    /// # Safety
    /// No other thread changes the table meanwhile.
    pub unsafe fn for_each<B>(&self, mut show: impl FnMut(&K, &C) -> ControlFlow<B>) -> ControlFlow<B> {
        for shard in &self.shards {
            for number in 0..shard.n_fresh.load(Acquire) {
                let entry = shard.entry(number);
                if !entry.cell.is_dead() {
                    // SAFETY: a living entry has its key.
                    entry.key.with(|key| show(unsafe { (*key).assume_init_ref() }, &entry.cell))?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

impl<M> Book<M> {
    /// Notes that an entry is out of the index. Under the lock.
    fn leave<E: Epochs<Mark = M>>(&mut self, number: u32, window: &E::Window) {
        self.n_waiting += 1;
        self.leaving.push(number);
        if self.leaving.len() == BATCH {
            let numbers = std::mem::replace(&mut self.leaving, Vec::with_capacity(BATCH));
            self.retired.push_back((E::mark(window), Retired::Entries(numbers)));
        }
    }
}

impl<K, C, E: Epochs> Drop for Shard<K, C, E> {
    fn drop(&mut self) {
        let n_fresh = self.n_fresh.load(Relaxed);
        let mut has_key = vec![true; n_fresh as usize];
        let retired = self.book.with_mut(|book| {
            // SAFETY: the shard is ours alone.
            let book = unsafe { &mut *book };
            book.free.iter().for_each(|number| has_key[*number as usize] = false);
            std::mem::take(&mut book.retired)
        });
        for (number, has_key) in (0..n_fresh).zip(has_key) {
            let (chunk, at) = chunk_of(number);
            // SAFETY: entries below `n_fresh` are in their chunks, and all but the free ones have keys.
            unsafe {
                let entry = self.chunks[chunk].load(Relaxed).add(at);
                if has_key {
                    (*entry).key.with_mut(|key| (*key).assume_init_drop());
                }
                entry.drop_in_place();
            }
        }
        for (chunk, memory) in self.chunks.iter().enumerate() {
            let memory = memory.load(Relaxed);
            if !memory.is_null() {
                // SAFETY: the chunk came from `add_chunk` with this layout.
                unsafe { dealloc(memory.cast(), chunk_layout::<K, C>(chunk)) };
            }
        }
        // SAFETY: nobody else has the shard, and each index is in it once.
        unsafe {
            Index::from_raw(self.index.load(Relaxed)).into_iter().for_each(|index| index.free());
            for (_, retired) in retired {
                if let Retired::Index(index) = retired {
                    index.free();
                }
            }
        }
    }
}
