//! The variables of the program: who wrote and read them last, and which of that was without order.
//!
//! Objects are known by their addresses. Whoever owns the memory says when one is gone ([`Memory::forget`]), so that
//! another one at the same address begins anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::Stack;
use crate::lock::LockSets;
use crate::thread::Watcher;

const SHARDS: usize = 256;
const GENERATIONS: usize = 4096;
const BITS: usize = 1 << 20;
/// Of more threads the reads of one variable are not kept.
const READS_MAX: usize = 64;
/// So many reads are kept although a write has come after them: their thread may yet write.
const PAST_READS_MAX: usize = 8;
/// More variables are not watched.
const VARIABLES_MAX: usize = 4_000_000;

/// An access, in the words of its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The number of the thread.
    pub thread: u32,
    /// Its place in the clocks.
    pub slot: u32,
    /// Its time by the full clock.
    pub clock: u32,
    /// Its time by the hard clock.
    pub hard: u32,
    /// The stamp of the thread.
    pub stamp: u32,
    /// Where.
    pub stack: Stack,
    /// The locks that were held.
    pub locks: u32,
    /// Of a write: where its thread has read the variable before; 0 for not at all.
    pub read: Stack,
    /// How many writes there had been.
    pub(crate) version: u32,
    /// What is special about it.
    pub traits: Traits,
    /// Was it told that a write came without order after this read?
    pub(crate) is_told: bool,
}

/// What is special about an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Does it change the variable?
    pub writes: bool,
    /// A method of a built-in container that reads and writes in one step.
    pub is_one_step: bool,
    /// A step of a loop over a container that does not allow changes meanwhile.
    pub iterates: bool,
    /// By the constructor of the object.
    pub is_initial: bool,
    /// Which constant is written; 0 for something else.
    pub constant: u8,
    /// Of a single step on a container: which method it is.
    pub method: u32,
}

/// What two accesses are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// Nothing orders them.
    Unordered,
    /// The thread had read the variable, another one wrote it, and now the thread writes: all of it in order.
    Between,
    /// As before, but the other write came earlier in this run. Only a lock says so, and it was free in between.
    Split,
}

/// Two accesses of one variable that may hurt each other.
#[derive(Clone, Copy, Debug)]
pub struct Conflict {
    /// What they are to each other.
    pub relation: Relation,
    /// The one that came first.
    pub before: Access,
    /// The other one.
    pub now: Access,
    /// What the thread of `now` had read.
    pub own_read: Option<Access>,
}

#[derive(Debug, Default)]
struct Variable {
    write: Option<Access>,
    reads: Vec<Access>,
    version: u32,
}

#[derive(Debug)]
struct Object {
    /// Thread, slot and time of its maker, for as long as nobody else has come.
    maker: Option<(u32, u32, u32)>,
    variables: HashMap<u64, Variable, FxBuildHasher>,
}

type Shard = Mutex<HashMap<usize, Object, FxBuildHasher>>;

/// See the module. Any thread may ask at any time.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Shard]>,
    generations: Box<[AtomicU32]>,
    /// A bit for each address that may be known.
    known: Box<[AtomicU64]>,
    n_variables: AtomicUsize,
    /// The sets of locks that accesses name.
    pub lock_sets: LockSets,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            generations: (0..GENERATIONS).map(|_| AtomicU32::new(0)).collect(),
            known: (0..BITS / 64).map(|_| AtomicU64::new(0)).collect(),
            n_variables: AtomicUsize::new(0),
            lock_sets: LockSets::default(),
        }
    }
}

#[inline]
fn mixed(address: usize) -> u64 {
    (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Memory {
    /// Changes when an object at this address is gone or goes over to other threads.
    #[inline]
    #[must_use]
    pub fn generation(&self, address: usize) -> u32 {
        self.generations[mixed(address) as usize >> 52 & (GENERATIONS - 1)].load(Relaxed)
    }

    fn renew(&self, address: usize) {
        self.generations[mixed(address) as usize >> 52 & (GENERATIONS - 1)].fetch_add(1, Relaxed);
    }

    fn shard(&self, address: usize) -> &Shard {
        &self.shards[(mixed(address) >> 32) as usize % SHARDS]
    }

    fn bit(address: usize) -> (usize, u64) {
        let bit = (mixed(address) >> 20) as usize % BITS;
        (bit / 64, 1 << (bit % 64))
    }

    /// Are there so many variables that new ones are passed over?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.n_variables.load(Relaxed) >= VARIABLES_MAX
    }

    /// The object at this address is gone.
    #[inline]
    pub fn forget(&self, address: usize) {
        let (word, bit) = Memory::bit(address);
        if self.known[word].load(Relaxed) & bit != 0 {
            self.remove(address);
        }
    }

    #[cold]
    fn remove(&self, address: usize) {
        let gone = self.shard(address).lock().remove(&address);
        if let Some(object) = gone {
            self.n_variables.fetch_sub(object.variables.len(), Relaxed);
            self.renew(address);
        }
    }

    /// A thread touches a part of an object. `is_maker` says that it made the object. What hurts is added to `found`.
    pub fn touch(
        &self,
        watcher: &mut Watcher,
        (address, part): (usize, u64),
        (stack, traits): (Stack, Traits),
        is_maker: bool,
        found: &mut Vec<Conflict>,
    ) {
        let (clock, hard) = watcher.times();
        let locks = watcher.lock_set(&self.lock_sets);
        let (thread, slot, stamp) = (watcher.thread, watcher.slot, watcher.stamp);
        let now =
            Access { thread, slot, clock, hard, stamp, stack, locks, read: 0, version: 0, traits, is_told: false };
        let mut shard = self.shard(address).lock();
        let object = shard.entry(address).or_insert_with(|| {
            let (word, bit) = Memory::bit(address);
            self.known[word].fetch_or(bit, Relaxed);
            let maker = is_maker.then_some((thread, slot, clock));
            Object { maker, variables: HashMap::default() }
        });
        if let Some((maker, of_maker, time)) = object.maker
            && maker != thread
        {
            object.maker = None;
            if !watcher.clock.covers(of_maker, time) {
                // Handed over in a way that is not seen, as through a list: what its maker did until now came first.
                self.n_variables.fetch_sub(object.variables.len(), Relaxed);
                object.variables.clear();
                self.renew(address);
            }
        }
        if self.is_full() && !object.variables.contains_key(&part) {
            return;
        }
        let variable = object.variables.entry(part).or_insert_with(|| {
            self.n_variables.fetch_add(1, Relaxed);
            Variable::default()
        });
        match traits.writes {
            true => variable.write(watcher, now, &self.lock_sets, found),
            false => variable.read(watcher, now, found),
        }
    }
}

/// May one of two accesses hurt the other? Two single steps on a container do not, and a look at a container matters
/// only as part of a loop, or to its own thread.
fn may_hurt(before: &Access, now: &Access, own_read: Option<&Access>) -> bool {
    let (one, two) = (before.traits, now.traits);
    if one.writes && two.writes {
        return !(one.is_one_step && two.is_one_step) || own_read.is_some() || before.read != 0;
    }
    let is_step = |it: &Access| it.traits.writes && it.traits.is_one_step && it.read == 0;
    !(is_step(before) || is_step(now)) || one.iterates || two.iterates
}

impl Variable {
    fn read(&mut self, watcher: &Watcher, now: Access, found: &mut Vec<Conflict>) {
        let now = Access { version: self.version, ..now };
        if let Some(before) = self.write
            && before.thread != now.thread
            && !watcher.clock.covers(before.slot, before.clock)
            && may_hurt(&before, &now, None)
        {
            found.push(Conflict { relation: Relation::Unordered, before, now, own_read: None });
        }
        match self.reads.iter_mut().find(|read| read.thread == now.thread) {
            Some(own) => *own = now,
            None => {
                if self.reads.len() >= READS_MAX {
                    self.reads.remove(0);
                }
                self.reads.push(now);
            }
        }
    }

    fn write(&mut self, watcher: &Watcher, now: Access, sets: &LockSets, found: &mut Vec<Conflict>) {
        let own = self.reads.iter().position(|read| read.thread == now.thread);
        let own_read = own.map(|at| self.reads.swap_remove(at));
        let now = Access { version: self.version, read: own_read.map_or(0, |read| read.stack), ..now };
        if let Some(before) = self.write.filter(|before| before.thread != now.thread) {
            let relation = self.relation(watcher, &before, own_read.as_ref(), &now, sets);
            if let Some(relation) = relation
                && may_hurt(&before, &now, own_read.as_ref())
            {
                found.push(Conflict { relation, before, now, own_read });
            }
        }
        for read in &mut self.reads {
            let is_past = watcher.clock.covers(read.slot, read.clock);
            if !is_past && !read.is_told && may_hurt(read, &now, None) {
                read.is_told = true;
                found.push(Conflict { relation: Relation::Unordered, before: *read, now, own_read: None });
            }
        }
        if self.reads.len() > PAST_READS_MAX {
            self.reads.retain(|read| !watcher.clock.covers(read.slot, read.clock));
        }
        self.write = Some(now);
        self.version = self.version.wrapping_add(1);
    }

    /// What a write of another thread is to a write now.
    fn relation(
        &self,
        watcher: &Watcher,
        before: &Access,
        own_read: Option<&Access>,
        now: &Access,
        sets: &LockSets,
    ) -> Option<Relation> {
        if !watcher.clock.covers(before.slot, before.clock) {
            return Some(Relation::Unordered);
        }
        let read = own_read?;
        if read.version != self.version {
            return Some(Relation::Between);
        }
        if watcher.hard.covers(before.slot, before.hard) || !sets.meet(before.locks, now.locks) {
            return None;
        }
        let theirs = sets.set(before.locks);
        let is_kept = watcher.held_since(read.stamp).any(|lock| theirs.binary_search(&lock).is_ok());
        (!is_kept).then_some(Relation::Split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Lock;
    use crate::thread::{Message, Slots};

    const READ: Traits =
        Traits { writes: false, is_one_step: false, iterates: false, is_initial: false, constant: 0, method: 0 };
    const WRITE: Traits = Traits { writes: true, ..READ };
    const STEP: Traits = Traits { is_one_step: true, ..WRITE };

    struct World {
        memory: Memory,
        threads: Vec<Watcher>,
        slots: Slots,
    }

    impl World {
        fn new() -> World {
            let slots = Slots::default();
            let mut main = slots.begin(&Message::default());
            let threads = vec![slots.begin(&main.send()), slots.begin(&main.send())];
            World { memory: Memory::default(), threads, slots }
        }

        fn touch(&mut self, thread: usize, stack: Stack, traits: Traits) -> Vec<Conflict> {
            let mut found = Vec::new();
            self.memory.touch(&mut self.threads[thread], (64, 1), (stack, traits), false, &mut found);
            found
        }
    }

    #[test]
    fn an_update_without_a_lock_is_told_with_what_was_read() {
        let mut world = World::new();
        assert!(world.touch(0, 1, READ).is_empty() && world.touch(0, 2, WRITE).is_empty());
        assert_eq!(world.touch(1, 3, READ)[0].relation, Relation::Unordered);
        let found = world.touch(1, 4, WRITE);
        assert_eq!((found[0].before.stack, found[0].before.read), (2, 1));
        assert_eq!(found[0].own_read.map(|read| read.stack), Some(3));
    }

    #[test]
    fn a_lock_orders() {
        let mut world = World::new();
        let lock = Lock::new(0);
        for thread in [0, 1, 0] {
            world.threads[thread].acquired(&lock, 0);
            assert!(world.touch(thread, 1, READ).is_empty());
            assert!(world.touch(thread, 2, WRITE).is_empty());
            world.threads[thread].releases(&lock);
        }
    }

    #[test]
    fn a_lock_that_is_free_between_reading_and_writing_is_told() {
        let mut world = World::new();
        let lock = Lock::new(0);
        let locked = |world: &mut World, thread: usize, stack, traits| {
            world.threads[thread].acquired(&lock, 0);
            let found = world.touch(thread, stack, traits);
            world.threads[thread].releases(&lock);
            found
        };
        for (stack, traits) in [(1, READ), (2, WRITE)] {
            assert!(locked(&mut world, 0, stack, traits).is_empty());
        }
        assert!(locked(&mut world, 1, 1, READ).is_empty());
        assert_eq!(locked(&mut world, 1, 2, WRITE)[0].relation, Relation::Split);
        assert!(locked(&mut world, 0, 1, READ).is_empty());
        assert_eq!(locked(&mut world, 1, 3, WRITE).len(), 0, "written without a read");
        assert_eq!(locked(&mut world, 0, 2, WRITE)[0].relation, Relation::Between);
    }

    #[test]
    fn single_steps_on_a_container_do_not_hurt_each_other() {
        let mut world = World::new();
        assert!(world.touch(0, 1, STEP).is_empty() && world.touch(1, 1, STEP).is_empty());
        assert!(world.touch(0, 2, READ).is_empty());
        assert!(!world.touch(0, 1, STEP).is_empty(), "after a look");
    }

    #[test]
    fn an_object_that_is_handed_over_belongs_to_others() {
        let mut world = World::new();
        let mut found = Vec::new();
        world.memory.touch(&mut world.threads[0], (64, 1), (1, WRITE), true, &mut found);
        let before = world.memory.generation(64);
        assert!(world.touch(1, 2, WRITE).is_empty());
        assert_ne!(world.memory.generation(64), before);
        assert_eq!(world.touch(0, 1, WRITE)[0].relation, Relation::Unordered);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut world = World::new();
        assert!(world.touch(0, 1, WRITE).is_empty());
        let before = world.memory.generation(64);
        world.memory.forget(64);
        assert_ne!(world.memory.generation(64), before);
        assert!(world.touch(1, 1, WRITE).is_empty());
    }

    #[test]
    fn an_end_that_was_waited_for_orders() {
        let mut world = World::new();
        assert!(world.touch(0, 1, WRITE).is_empty());
        let first = world.threads.remove(0);
        let told = world.slots.end(first);
        world.threads[0].receive(&told);
        assert!(world.touch(0, 1, WRITE).is_empty());
    }
}
