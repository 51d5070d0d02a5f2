//! Identifiers as small numbers: equal names have one, so comparing and hashing them costs a word, and the bodies that
//! hold millions of them stay small.
//!
//! The strings live as long as the process: their number is bounded by the distinct identifiers of the checked
//! texts. Order is that of the text, never of the numbers.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};

use rustc_hash::{FxHashMap, FxHasher};

const SHARDS: usize = 16;

static INTERNED: LazyLock<[Mutex<FxHashMap<&'static str, Name>>; SHARDS]> = LazyLock::new(|| {
    let mut names: [FxHashMap<&'static str, Name>; SHARDS] = std::array::from_fn(|_| FxHashMap::default());
    for (number, text) in (1..).zip(ASKED_OFTEN) {
        let name = numbered(number);
        keep(name, text);
        names[shard(text)].insert(text, name);
    }
    names.map(Mutex::new)
});

/// The texts by number, in rows that double in length: a row never moves, so reading takes no lock.
static TEXTS: [OnceLock<Box<[OnceLock<&'static str>]>>; ROWS] = [const { OnceLock::new() }; ROWS];

/// The first row has room for 2 to the power of this many names.
const FIRST_ROW_BITS: u32 = 10;

/// Enough for all numbers of 32 bits.
const ROWS: usize = (u32::BITS - FIRST_ROW_BITS) as usize;

/// The next free number.
static NEXT: AtomicU32 = AtomicU32::new(ASKED_OFTEN.len() as u32 + 1);

const fn numbered(number: u32) -> Name {
    match NonZeroU32::new(number) {
        Some(number) => Name(number),
        None => panic!("names are numbered from 1, and there are fewer than 2^32"),
    }
}

/// The row of a number, and where it stands there.
fn place(name: Name) -> (usize, usize) {
    let shifted = name.0.get() as usize + (1 << FIRST_ROW_BITS);
    let row = shifted.ilog2();
    ((row - FIRST_ROW_BITS) as usize, shifted - (1 << row))
}

fn keep(name: Name, text: &'static str) {
    let (row, idx) = place(name);
    let row =
        TEXTS[row].get_or_init(|| (0..1_usize << (row as u32 + FIRST_ROW_BITS)).map(|_| OnceLock::new()).collect());
    row[idx].set(text).expect("a number is given once");
}

/// `*`, as a star import binds it.
pub static STAR: Name = numbered(1);
/// `__init__`
pub static INIT: Name = numbered(2);
/// `__new__`
pub static NEW: Name = numbered(3);
/// `__post_init__`
pub static POST_INIT: Name = numbered(4);
/// `__call__`
pub static CALL: Name = numbered(5);
/// `__enter__`
pub static ENTER: Name = numbered(6);
/// `__exit__`
pub static EXIT: Name = numbered(7);
/// `__aenter__`
pub static ASYNC_ENTER: Name = numbered(8);
/// `__aexit__`
pub static ASYNC_EXIT: Name = numbered(9);
/// `__iter__`
pub static ITER: Name = numbered(10);
/// `__aiter__`
pub static ASYNC_ITER: Name = numbered(11);
/// `__contains__`
pub static CONTAINS: Name = numbered(12);
/// `__getitem__`
pub static GET_ITEM: Name = numbered(13);
/// `__setitem__`
pub static SET_ITEM: Name = numbered(14);
/// `__delitem__`
pub static DEL_ITEM: Name = numbered(15);

/// The texts of the names above, in the order of their numbers: the analysis asks for them at many nodes, and so they
/// cost no look-up.
static ASKED_OFTEN: [&str; 15] = [
    "*",
    "__init__",
    "__new__",
    "__post_init__",
    "__call__",
    "__enter__",
    "__exit__",
    "__aenter__",
    "__aexit__",
    "__iter__",
    "__aiter__",
    "__contains__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
];

fn shard(text: &str) -> usize {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 60).unwrap_or(0) % SHARDS
}

/// An interned identifier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(NonZeroU32);

impl Name {
    /// The one name with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut names = INTERNED[shard(text)].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return *known;
        }
        let fresh: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let name = numbered(NEXT.fetch_add(1, Ordering::Relaxed));
        keep(name, fresh);
        names.insert(fresh, name);
        name
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let (row, idx) = place(self);
        let text = TEXTS[row].get().and_then(|row| row[idx].get());
        text.or_else(|| ASKED_OFTEN.get(self.0.get() as usize - 1)).expect("a name has its text before it is given out")
    }

    /// Starts with an underscore, but is no `__special__` name.
    #[must_use]
    pub fn is_private(self) -> bool {
        self.as_str().starts_with('_') && !self.is_special()
    }

    /// Of the form `__name__`.
    #[must_use]
    pub fn is_special(self) -> bool {
        let text = self.as_str();
        text.len() > 4 && text.starts_with("__") && text.ends_with("__")
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self == other { std::cmp::Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
