//! The map of `primitives` beside DashMap, papaya and scc, with the same hasher: ratios inside a round, and the median
//! over the rounds. `cargo run --release [ROUNDS]`.

use std::collections::hash_map::RandomState;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use primitives::map::{ConcurrentMap, CounterMap};

const N_KEYS: u64 = 10_000;
const OPS: u64 = 400_000;
const THREADS: u64 = 2;

/// A map of each kind, as the measured operations see it.
trait Map: Sync + Sized {
    const NAME: &str = "raceproof";
    fn new(state: RandomState) -> Self;
    fn get(&self, key: u64) -> Option<u64>;
    fn insert(&self, key: u64, value: u64);
    fn add(&self, key: u64);
}

struct Ours(ConcurrentMap<u64, u64>, CounterMap<u64>);

impl Map for Ours {
    fn new(state: RandomState) -> Self {
        Ours(ConcurrentMap::with_hasher(64, state.clone()), CounterMap::with_hasher(64, state))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }
    fn add(&self, key: u64) {
        self.1.add(&key, 1, |key| *key).expect("no overflow");
    }
}

struct Dash(dashmap::DashMap<u64, u64>);

impl Map for Dash {
    const NAME: &str = "DashMap";
    fn new(state: RandomState) -> Self {
        Dash(dashmap::DashMap::with_hasher(state))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).map(|value| *value)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }
    fn add(&self, key: u64) {
        *self.0.entry(key).or_insert(0) += 1;
    }
}

struct Papaya(papaya::HashMap<u64, u64>);

impl Map for Papaya {
    const NAME: &str = "papaya";
    fn new(state: RandomState) -> Self {
        Papaya(papaya::HashMap::with_hasher(state))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.pin().get(&key).copied()
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.pin().insert(key, value);
    }
    fn add(&self, key: u64) {
        self.0.pin().update_or_insert(key, |count| count + 1, 1);
    }
}

struct Scc(scc::HashMap<u64, u64>);

impl Map for Scc {
    const NAME: &str = "scc";
    fn new(state: RandomState) -> Self {
        Scc(scc::HashMap::with_hasher(state))
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.0.read_sync(&key, |_, value| *value)
    }
    fn insert(&self, key: u64, value: u64) {
        self.0.upsert_sync(key, value);
    }
    fn add(&self, key: u64) {
        *self.0.entry_sync(key).or_insert(0) += 1;
    }
}

/// Numbers that look random and are the same in each run.
fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Nanoseconds for an operation of one thread, while all threads run.
fn timed(n_threads: u64, ops: u64, work: impl Fn(u64) + Sync) -> f64 {
    let barrier = Barrier::new(n_threads as usize);
    let took: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads)
            .map(|me| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    work(me);
                    start.elapsed().as_nanos() as f64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    took.iter().sum::<f64>() / (took.len() as f64 * ops as f64)
}

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Get,
    Add,
    Insert,
    Mixed,
}

fn measure<M: Map>(operation: Operation, n_threads: u64, state: &RandomState) -> f64 {
    let map = M::new(state.clone());
    if operation != Operation::Insert {
        for key in 0..N_KEYS {
            map.insert(key, key);
            map.add(key);
        }
    }
    timed(n_threads, if operation == Operation::Insert { OPS / 4 } else { OPS }, |me| match operation {
        Operation::Get => random(me + 1).take(OPS as usize).for_each(|n| {
            black_box(map.get(n % N_KEYS));
        }),
        Operation::Add => random(me + 1).take(OPS as usize).for_each(|n| map.add(n % N_KEYS)),
        Operation::Insert => (0..OPS / 4).for_each(|n| map.insert(n * THREADS + me, n)),
        Operation::Mixed => random(me + 1).take(OPS as usize).for_each(|n| {
            if n >> 32 & 15 == 0 {
                map.insert(n % N_KEYS, n);
            } else {
                black_box(map.get(n % N_KEYS));
            }
        }),
    })
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    let rounds: usize = std::env::args().nth(1).map_or(7, |rounds| rounds.parse().expect("a number of rounds"));
    println!("| operation | threads | ns | against | ns | ratio |\n|---|---|---|---|---|---|");
    let operations =
        [("get", Operation::Get), ("add", Operation::Add), ("insert", Operation::Insert), ("94/6", Operation::Mixed)];
    for (name, operation) in operations {
        for n_threads in [1, THREADS] {
            let measures = [measure::<Ours>, measure::<Dash>, measure::<Papaya>, measure::<Scc>];
            let mut times = vec![Vec::new(); measures.len()];
            for round in 0..=rounds {
                let state = RandomState::new();
                for idx in 0..measures.len() {
                    let idx = (idx + round) % measures.len();
                    let took = measures[idx](operation, n_threads, &state);
                    if round > 0 {
                        times[idx].push(took);
                    }
                }
            }
            let ours = median(times[0].clone());
            for (idx, rival) in [Dash::NAME, Papaya::NAME, Scc::NAME].into_iter().enumerate() {
                let theirs = &times[idx + 1];
                let ratio = median(times[0].iter().zip(theirs).map(|(our, their)| our / their).collect());
                let theirs = median(theirs.clone());
                println!("| {name} | {n_threads} | {ours:.1} | {rival} | {theirs:.1} | {ratio:.2} |");
            }
        }
    }
}
