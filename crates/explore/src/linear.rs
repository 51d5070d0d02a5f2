//! Is a history of calls linearizable: is there an order, true to the times, in which a sequential object gives the
//! same results?
//!
//! Two ways. For small scenarios under control, all outcomes of the serial orders are computed once and each run is
//! a look-up ([`SerialOutcomes`]; it asks less, since it keeps only the order within each thread). For recorded
//! histories the search of Wing and Gong with the configuration cache of Lowe (CPE 2017), key by key where calls on
//! different keys are independent ([`check`]).

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use crate::operation::ThreadId;

/// All orders of the calls of some threads, each a list of who makes the next call.
#[derive(Clone, Debug)]
pub struct SerialOrders {
    lengths: Vec<usize>,
    next: Option<Vec<ThreadId>>,
}

impl SerialOrders {
    /// Of threads that make this many calls each.
    #[must_use]
    pub fn new(lengths: &[usize]) -> Self {
        let threads = (0..).map(ThreadId).zip(lengths);
        let first = threads.flat_map(|(thread, n)| std::iter::repeat_n(thread, *n)).collect();
        Self { lengths: lengths.to_vec(), next: Some(first) }
    }

    /// How many there are.
    #[must_use]
    pub fn n_orders(&self) -> u128 {
        let (mut orders, mut placed) = (1u128, 0u128);
        for n in &self.lengths {
            for own in 1..=*n as u128 {
                placed += 1;
                orders = orders.saturating_mul(placed) / own;
            }
        }
        orders
    }
}

impl Iterator for SerialOrders {
    type Item = Vec<ThreadId>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = self.next.take()?;
        // The next permutation of a multiset in lexicographic order.
        if let Some(at) = (1..order.len()).rev().map(|at| at - 1).find(|at| order[*at] < order[at + 1]) {
            let mut following = order.clone();
            let swap = following.iter().rposition(|thread| *thread > following[at]).expect("the neighbour is greater");
            following.swap(at, swap);
            following[at + 1..].reverse();
            self.next = Some(following);
        }
        Some(order)
    }
}

/// The outcomes of all serial orders.
#[derive(Clone, Debug)]
pub struct SerialOutcomes<T>(HashSet<T>);

impl<T: Eq + Hash> SerialOutcomes<T> {
    /// Runs all orders; `None` if there are more than `orders_max`.
    pub fn of(lengths: &[usize], orders_max: u128, run: impl FnMut(Vec<ThreadId>) -> T) -> Option<Self> {
        let orders = SerialOrders::new(lengths);
        (orders.n_orders() <= orders_max).then(|| Self(orders.map(run).collect()))
    }

    /// Could this have come of a serial order?
    #[must_use]
    pub fn explains(&self, outcome: &T) -> bool {
        self.0.contains(outcome)
    }

    /// How many different outcomes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// When a call began and ended, on any clock that all threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Calls with different keys are independent.
    pub key: u64,
    /// The beginning.
    pub begin: u64,
    /// The end; none for a call that has not come back: it may have taken effect or not.
    pub end: Option<u64>,
}

/// What the search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is an order.
    Linearizable,
    /// There is none.
    NotLinearizable {
        /// The longest order that could be built, as indices of calls.
        longest: Vec<usize>,
        /// The call that fits nowhere after it.
        stuck: usize,
    },
    /// The search was given up at its limit.
    Unknown,
}

/// Looks for an order, key by key. `step` gives the state after a call if its result is the one that the sequential
/// object would have given in that state; for a call that has not come back, any result is right.
pub fn check<S: Clone + Eq + Hash>(
    calls: &[Call],
    initial: &S,
    configurations_max: usize,
    mut step: impl FnMut(&S, usize) -> Option<S>,
) -> Answer {
    let mut by_key: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (idx, call) in calls.iter().enumerate() {
        by_key.entry(call.key).or_default().push(idx);
    }
    let mut is_known = true;
    for own in by_key.values() {
        match Search::new(calls, own, configurations_max).run(initial.clone(), &mut step) {
            Answer::Linearizable => {}
            Answer::Unknown => is_known = false,
            answer => return answer,
        }
    }
    if is_known { Answer::Linearizable } else { Answer::Unknown }
}

/// The end of the list of entries.
const END: usize = usize::MAX;

/// Beginnings and ends of calls in the order of time, as a list from which calls are lifted and put back.
struct Search<'a> {
    /// The calls of one key, as indices of the whole history.
    own: &'a [usize],
    entries: Vec<Entry>,
    first: usize,
    n_complete: usize,
    configurations_max: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The number within `own`.
    call: usize,
    /// Where the call ends; `END` for one that has not come back. Of an end: none.
    end: Option<usize>,
    previous: usize,
    next: usize,
}

impl<'a> Search<'a> {
    fn new(calls: &[Call], own: &'a [usize], configurations_max: usize) -> Self {
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (number, idx) in own.iter().enumerate() {
            // An end at the time of a beginning comes after it: the two calls overlap.
            times.push((calls[*idx].begin, false, number));
            times.extend(calls[*idx].end.map(|end| (end, true, number)));
        }
        times.sort_unstable();
        let n = times.len();
        let mut ends = vec![END; own.len()];
        for (at, (_, is_end, call)) in times.iter().enumerate() {
            if *is_end {
                ends[*call] = at;
            }
        }
        let entries = times.iter().enumerate().map(|(at, (_, is_end, call))| Entry {
            call: *call,
            end: (!is_end).then(|| ends[*call]),
            previous: if at == 0 { END } else { at - 1 },
            next: if at + 1 == n { END } else { at + 1 },
        });
        let n_complete = ends.iter().filter(|end| **end != END).count();
        Self { own, entries: entries.collect(), first: if n == 0 { END } else { 0 }, n_complete, configurations_max }
    }

    fn unlink(&mut self, at: usize) {
        let Entry { previous, next, .. } = self.entries[at];
        match previous {
            END => self.first = next,
            _ => self.entries[previous].next = next,
        }
        if next != END {
            self.entries[next].previous = previous;
        }
    }

    fn relink(&mut self, at: usize) {
        let Entry { previous, next, .. } = self.entries[at];
        match previous {
            END => self.first = at,
            _ => self.entries[previous].next = at,
        }
        if next != END {
            self.entries[next].previous = at;
        }
    }

    fn run<S: Clone + Eq + Hash>(mut self, initial: S, step: &mut impl FnMut(&S, usize) -> Option<S>) -> Answer {
        let mut state = initial;
        let mut done = vec![0u64; self.own.len().div_ceil(64)];
        let mut seen: HashSet<(Vec<u64>, S)> = HashSet::new();
        let mut stack: Vec<(usize, S)> = Vec::new();
        let mut n_complete = 0;
        let (mut longest, mut stuck) = (Vec::new(), 0);
        let mut at = self.first;
        while n_complete < self.n_complete {
            let entry = self.entries[at];
            let Some(end) = entry.end else {
                // A call ends that has not been placed: the last one placed was placed wrongly.
                if stack.len() >= longest.len() {
                    longest = stack.iter().map(|(at, _)| self.own[self.entries[*at].call]).collect();
                    stuck = self.own[entry.call];
                }
                let Some((placed, before)) = stack.pop() else {
                    return Answer::NotLinearizable { longest, stuck };
                };
                let Entry { call, end, .. } = self.entries[placed];
                state = before;
                done[call / 64] &= !(1 << (call % 64));
                if let Some(end) = end.filter(|end| *end != END) {
                    self.relink(end);
                    n_complete -= 1;
                }
                self.relink(placed);
                at = self.entries[placed].next;
                continue;
            };
            let after = step(&state, self.own[entry.call]).and_then(|after| {
                done[entry.call / 64] |= 1 << (entry.call % 64);
                let is_new = seen.insert((done.clone(), after.clone()));
                if !is_new {
                    done[entry.call / 64] &= !(1 << (entry.call % 64));
                }
                is_new.then_some(after)
            });
            if seen.len() > self.configurations_max {
                return Answer::Unknown;
            }
            let Some(after) = after else {
                at = entry.next;
                continue;
            };
            stack.push((at, std::mem::replace(&mut state, after)));
            self.unlink(at);
            if end != END {
                self.unlink(end);
                n_complete += 1;
            }
            at = self.first;
        }
        Answer::Linearizable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Register {
        Write(i32),
        Read(i32),
    }

    fn answer(history: &[(u64, u64, Option<u64>, Register)]) -> Answer {
        let calls: Vec<Call> =
            history.iter().map(|(key, begin, end, _)| Call { key: *key, begin: *begin, end: *end }).collect();
        check(&calls, &0, 100_000, |state, idx| match history[idx].3 {
            Register::Write(value) => Some(value),
            Register::Read(value) => (*state == value).then_some(*state),
        })
    }

    use Register::{Read, Write};

    #[test]
    fn overlapping_calls_may_take_effect_in_either_order() {
        assert_eq!(
            answer(&[(0, 0, Some(10), Write(1)), (0, 1, Some(2), Read(0)), (0, 3, Some(4), Read(1))]),
            Answer::Linearizable
        );
        assert_eq!(answer(&[]), Answer::Linearizable);
    }

    #[test]
    fn a_value_that_has_gone_does_not_come_back() {
        let history = [(0, 0, Some(10), Write(1)), (0, 1, Some(2), Read(1)), (0, 3, Some(4), Read(0))];
        assert_eq!(answer(&history), Answer::NotLinearizable { longest: vec![0, 1], stuck: 2 });
        // On different keys the same calls are independent.
        let history = [(0, 0, Some(10), Write(1)), (0, 1, Some(2), Read(1)), (1, 3, Some(4), Read(0))];
        assert_eq!(answer(&history), Answer::Linearizable);
    }

    #[test]
    fn a_call_that_has_not_come_back_may_count_or_not() {
        assert_eq!(answer(&[(0, 0, None, Write(1)), (0, 1, Some(2), Read(0))]), Answer::Linearizable);
        assert_eq!(answer(&[(0, 0, None, Write(1)), (0, 1, Some(2), Read(1))]), Answer::Linearizable);
        assert_eq!(
            answer(&[(0, 1, Some(2), Read(1)), (0, 3, None, Write(1))]),
            Answer::NotLinearizable { longest: vec![], stuck: 0 }
        );
    }

    #[test]
    fn the_search_agrees_with_trying_all_orders() {
        let mut seed = 1u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut n_right = 0;
        for _ in 0..2_000 {
            let history: Vec<_> = (0..5)
                .map(|_| {
                    let begin = below(12);
                    let value = below(3) as i32;
                    let what = if below(2) == 0 { Write(value) } else { Read(value) };
                    (0, begin, Some(begin + 1 + below(6)), what)
                })
                .collect();
            let expected = permutations(5).iter().any(|order| fits(&history, order));
            n_right += u32::from(expected);
            assert_eq!(answer(&history) == Answer::Linearizable, expected);
        }
        assert!((200..1_800).contains(&n_right), "{n_right}");
    }

    fn permutations(n: usize) -> Vec<Vec<usize>> {
        let orders = SerialOrders::new(&vec![1; n]);
        orders.map(|order| order.iter().map(|thread| thread.idx()).collect()).collect()
    }

    fn fits(history: &[(u64, u64, Option<u64>, Register)], order: &[usize]) -> bool {
        let mut state = 0;
        for (at, idx) in order.iter().enumerate() {
            let (_, begin, _, what) = history[*idx];
            if order[at + 1..].iter().any(|later| history[*later].2.is_some_and(|end| end < begin)) {
                return false;
            }
            match what {
                Write(value) => state = value,
                Read(value) if value != state => return false,
                Read(_) => {}
            }
        }
        true
    }

    #[test]
    fn serial_orders_are_counted_and_listed() {
        let orders = SerialOrders::new(&[2, 1, 2]);
        assert_eq!(orders.n_orders(), 30);
        assert_eq!(orders.collect::<HashSet<_>>().len(), 30);
        let outcomes = SerialOutcomes::of(&[1, 1], 10, |order| order[0]).expect("few");
        assert!(outcomes.explains(&ThreadId(0)) && outcomes.explains(&ThreadId(1)) && !outcomes.explains(&ThreadId(2)));
        assert!(SerialOutcomes::of(&[10, 10], 10, |_| 0).is_none());
    }
}
