//! The table under loom: every interleaving of two threads, and every value that a weak memory may show them.

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::thread;

use super::table::{Answer, Epochs, Found, Hash, Lock, Others, Removal, Search, Table};
use super::tally::Tally;

/// For each of the two threads, how often it has opened and closed a window: odd while one is open. Reading and writing
/// are both read-modify-writes, so a window that opens after a mark was made sees what was done before the mark.
type Doors = Arc<[AtomicUsize; 2]>;

struct Counted;

struct Window {
    doors: Doors,
    me: usize,
}

impl Window {
    fn open(doors: &Doors, me: usize) -> Window {
        doors[me].fetch_add(1, AcqRel);
        Window { doors: Arc::clone(doors), me }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.doors[self.me].fetch_add(1, AcqRel);
    }
}

struct Mark {
    doors: Doors,
    other: usize,
    seen: usize,
}

#[derive(Default)]
struct Spinning(AtomicUsize);

// SAFETY: it is a spin lock.
unsafe impl Lock for Spinning {
    fn lock(&self) {
        while self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.0.store(0, Release);
    }
}

// SAFETY: a mark is past when the other thread had no window open, or has closed it. The marking thread uses what it
// has removed no more, and takes entries back in operations that hold no references.
unsafe impl Epochs for Counted {
    type Window = Window;
    type Mark = Mark;
    type Lock = Spinning;

    fn is_open(_: &Window) -> bool {
        true
    }

    fn mark(window: &Window) -> Mark {
        let other = 1 - window.me;
        Mark { doors: Arc::clone(&window.doors), other, seen: window.doors[other].fetch_add(0, AcqRel) }
    }

    fn is_past(mark: &Mark) -> bool {
        mark.seen.is_multiple_of(2) || mark.doors[mark.other].load(Acquire) != mark.seen
    }

    fn urge(_: &Window, _: bool) -> bool {
        false
    }
}

type Model = Table<u64, Tally, Counted>;

/// All keys have one tag and meet in the index.
fn hash() -> Hash {
    Hash::new(1)
}

fn find<'w>(table: &'w Model, window: &'w Window, key: u64) -> Option<Found<'w, u64, Tally>> {
    match table.find(window, hash(), |stored, _| if *stored == key { Answer::Same } else { Answer::Other }) {
        Search::Found(found) => Some(found),
        Search::Absent | Search::Stopped => None,
    }
}

fn get(table: &Model, doors: &Doors, me: usize, key: u64) -> Option<i64> {
    find(table, &Window::open(doors, me), key)?.cell.load()
}

/// Adds to the count of a key, which is added if need be.
fn add(table: &Model, doors: &Doors, me: usize, key: u64, n: i64) {
    let mut others = Others::default();
    loop {
        let window = Window::open(doors, me);
        let compare = |stored: &u64, _: &Tally| if *stored == key { Answer::Same } else { Answer::Other };
        if let Search::Found(found) = table.find_noting(&window, hash(), &mut others, compare)
            && found.cell.add(n).is_ok()
        {
            return;
        }
        if table.insert(&window, hash(), &others, key, n).is_ok() {
            return;
        }
    }
}

fn remove(table: &Model, doors: &Doors, me: usize, key: u64) -> Option<i64> {
    let window = Window::open(doors, me);
    let found = find(table, &window, key)?;
    match table.remove(&window, &found, |_, cell| cell.take()) {
        Removal::Removed(count) => Some(count),
        Removal::Kept | Removal::Reopen => None,
    }
}

/// Runs both functions at once on a table that `prepare` has filled, in every order that there is.
fn check(
    prepare: fn(&Model, &Doors),
    first: fn(&Model, &Doors),
    second: fn(&Model, &Doors),
    judge: fn(&Model, &Doors),
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let table = Arc::new(Model::new(1));
        let doors: Doors = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        prepare(&table, &doors);
        let other = thread::spawn({
            let (table, doors) = (Arc::clone(&table), Arc::clone(&doors));
            move || second(&table, &doors)
        });
        first(&table, &doors);
        other.join().expect("no panic");
        judge(&table, &doors);
    });
}

#[test]
fn an_entry_that_is_used_again_never_shows_the_count_of_another_key() {
    check(
        |table, doors| add(table, doors, 0, 1, 100),
        |table, doors| {
            assert_eq!(remove(table, doors, 0, 1), Some(100));
            add(table, doors, 0, 2, 200);
        },
        |table, doors| {
            assert!(matches!(get(table, doors, 1, 1), None | Some(100)));
            assert!(matches!(get(table, doors, 1, 2), None | Some(200)));
        },
        |table, doors| assert_eq!((get(table, doors, 0, 1), get(table, doors, 0, 2)), (None, Some(200))),
    );
}

#[test]
fn a_key_that_stays_is_found_while_the_index_grows() {
    check(
        |table, doors| add(table, doors, 0, 1, 100),
        |table, doors| (2..5).for_each(|key| add(table, doors, 0, key, 1)),
        |table, doors| assert_eq!(get(table, doors, 1, 1), Some(100)),
        |table, doors| (2..5).for_each(|key| assert_eq!(get(table, doors, 0, key), Some(1))),
    );
}

#[test]
fn two_threads_add_one_key_once() {
    check(
        |_, _| {},
        |table, doors| add(table, doors, 0, 1, 1),
        |table, doors| add(table, doors, 1, 1, 2),
        |table, doors| {
            assert_eq!(table.len(), 1);
            assert_eq!(get(table, doors, 0, 1), Some(3));
        },
    );
}

#[test]
fn an_addition_to_a_key_that_is_removed_is_neither_lost_nor_counted_twice() {
    check(
        |table, doors| add(table, doors, 0, 1, 1),
        |table, doors| {
            let taken = remove(table, doors, 0, 1).expect("nobody else removes it");
            add(table, doors, 0, 9, taken);
        },
        |table, doors| add(table, doors, 1, 1, 2),
        |table, doors| {
            let left = get(table, doors, 0, 1).unwrap_or(0);
            assert_eq!(left + get(table, doors, 0, 9).expect("it was added"), 3);
        },
    );
}

#[test]
fn a_key_is_removed_by_one_thread() {
    check(
        |table, doors| add(table, doors, 0, 1, 1),
        |table, doors| {
            if remove(table, doors, 0, 1).is_some() {
                add(table, doors, 0, 2, 1);
            }
        },
        |table, doors| {
            if remove(table, doors, 1, 1).is_some() {
                add(table, doors, 1, 2, 1);
            }
        },
        |table, doors| assert_eq!((get(table, doors, 0, 1), get(table, doors, 0, 2), table.len()), (None, Some(1), 1)),
    );
}
