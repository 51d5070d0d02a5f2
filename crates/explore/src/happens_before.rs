//! The order that a trace imposes: vector clocks, races, and a hash that equal traces share.
//!
//! Two runs are equal (one Mazurkiewicz trace) if one comes from the other by swapping neighbours that are not
//! dependent. The clocks are those of Mattern and Fidge, with the dependence of `operation`.

use std::hash::{Hash, Hasher};

use crate::operation::{Event, dependent};
use crate::trace::{Step, Trace};

/// Which edges order events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edges {
    /// All dependence: what DPOR and the explanation ask for.
    All,
    /// Locks, conditions, starts and ends of threads, but not the accesses themselves: what a race is judged by.
    Synchronisation,
}

/// The vector clocks of a trace. One value can serve many runs and keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct HappensBefore {
    n_threads: usize,
    clocks: Vec<u32>,
    /// For each event, the how-manieth of its thread it is, from 1.
    ordinals: Vec<u32>,
    threads: Vec<usize>,
    last: Vec<Option<usize>>,
}

impl HappensBefore {
    /// Of a trace.
    #[must_use]
    pub fn of(trace: &Trace, edges: Edges) -> Self {
        let mut order = Self::default();
        order.compute(&trace.steps, trace.n_threads, edges);
        order
    }

    /// The same in memory that is there already.
    pub fn compute(&mut self, steps: &[Step], n_threads: usize, edges: Edges) {
        self.n_threads = n_threads;
        self.clocks.clear();
        self.clocks.resize(steps.len() * n_threads, 0);
        self.ordinals.clear();
        self.threads.clear();
        self.last.clear();
        self.last.resize(n_threads, None);
        for (idx, step) in steps.iter().enumerate() {
            let thread = step.event.thread.idx();
            if let Some(before) = self.last[thread] {
                self.join(before, idx);
            }
            for other in (0..idx).rev() {
                if !self.is_before(other, idx) && orders(&steps[other].event, &step.event, edges) {
                    self.join(other, idx);
                }
            }
            let ordinal = self.last[thread].map_or(1, |before| self.ordinals[before] + 1);
            self.clocks[idx * n_threads + thread] = ordinal;
            self.ordinals.push(ordinal);
            self.threads.push(thread);
            self.last[thread] = Some(idx);
        }
    }

    fn join(&mut self, from: usize, to: usize) {
        let n = self.n_threads;
        let (head, tail) = self.clocks.split_at_mut(to * n);
        for (mine, theirs) in tail[..n].iter_mut().zip(&head[from * n..(from + 1) * n]) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Does the event at `a` come before the one at `b` in every equal run? Only for `a < b`.
    #[must_use]
    pub fn is_before(&self, a: usize, b: usize) -> bool {
        self.clocks[b * self.n_threads + self.threads[a]] >= self.ordinals[a]
    }

    /// The clock of an event: for each thread, how many of its events come before or are this one.
    #[must_use]
    pub fn clock(&self, event: usize) -> &[u32] {
        &self.clocks[event * self.n_threads..(event + 1) * self.n_threads]
    }

    /// Is the event within the clock?
    pub(crate) fn is_within(&self, event: usize, clock: &[u32]) -> bool {
        clock[self.threads[event]] >= self.ordinals[event]
    }

    /// The index of the last event of a thread.
    pub(crate) fn last_of(&self, thread: usize) -> Option<usize> {
        self.last.get(thread).copied().flatten()
    }

    /// A number that equal traces share, and others, but for chance, do not.
    #[must_use]
    pub fn trace_hash(&self, trace: &Trace) -> u64 {
        let mut sum = trace.blocked.len() as u64;
        for (idx, step) in trace.steps.iter().enumerate() {
            let mut mixer = Mixer::default();
            // What a wake-up call came to is known from the order; the event alone would tell equal runs apart where
            // the numbers of threads differ.
            (step.event.thread, step.event.operation, step.event.effect, self.clock(idx)).hash(&mut mixer);
            sum = sum.wrapping_add(mixer.finish());
        }
        sum
    }
}

fn orders(earlier: &Event, later: &Event, edges: Edges) -> bool {
    let are_accesses = earlier.operation.is_access() && later.operation.is_access();
    dependent(earlier, later) && (edges == Edges::All || !are_accesses)
}

/// Pairs of accesses to one place, by two threads, at least one a write, that no synchronisation orders.
#[must_use]
pub fn races(trace: &Trace) -> Vec<(usize, usize)> {
    let order = HappensBefore::of(trace, Edges::Synchronisation);
    let mut found = Vec::new();
    for (later, step) in trace.steps.iter().enumerate() {
        for (earlier, other) in trace.steps[..later].iter().enumerate() {
            let are_accesses = [step, other].iter().all(|step| step.event.operation.is_access());
            let is_race = are_accesses
                && step.event.thread != other.event.thread
                && dependent(&other.event, &step.event)
                && !order.is_before(earlier, later);
            if is_race {
                found.push((earlier, later));
            }
        }
    }
    found
}

/// A fast hash of numbers, the same on every machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = mixed ^ (mixed >> 27);
    }
}
