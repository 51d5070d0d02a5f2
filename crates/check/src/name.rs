//! Identifiers as pointers: equal names are one string, so comparing and hashing them costs a word.
//!
//! The strings live as long as the process: their number is bounded by the distinct identifiers of the checked
//! texts. Order is that of the text, never of addresses.

use std::hash::{Hash, Hasher};
use std::sync::{LazyLock, Mutex};

use rustc_hash::{FxHashSet, FxHasher};

const SHARDS: usize = 16;

static INTERNED: LazyLock<[Mutex<FxHashSet<&'static str>>; SHARDS]> = LazyLock::new(|| {
    let mut names: [FxHashSet<&'static str>; SHARDS] = std::array::from_fn(|_| FxHashSet::default());
    for name in ASKED_OFTEN {
        names[shard(name.0)].insert(name.0);
    }
    names.map(Mutex::new)
});

/// `*`, as a star import binds it.
pub static STAR: Name = Name("*");
/// `__init__`
pub static INIT: Name = Name("__init__");
/// `__new__`
pub static NEW: Name = Name("__new__");
/// `__post_init__`
pub static POST_INIT: Name = Name("__post_init__");
/// `__call__`
pub static CALL: Name = Name("__call__");
/// `__enter__`
pub static ENTER: Name = Name("__enter__");
/// `__exit__`
pub static EXIT: Name = Name("__exit__");
/// `__aenter__`
pub static ASYNC_ENTER: Name = Name("__aenter__");
/// `__aexit__`
pub static ASYNC_EXIT: Name = Name("__aexit__");
/// `__iter__`
pub static ITER: Name = Name("__iter__");
/// `__aiter__`
pub static ASYNC_ITER: Name = Name("__aiter__");
/// `__contains__`
pub static CONTAINS: Name = Name("__contains__");
/// `__getitem__`
pub static GET_ITEM: Name = Name("__getitem__");
/// `__setitem__`
pub static SET_ITEM: Name = Name("__setitem__");
/// `__delitem__`
pub static DEL_ITEM: Name = Name("__delitem__");

/// Names that the analysis asks for at many nodes: they are there before all others, and cost no look-up.
static ASKED_OFTEN: [&Name; 15] = [
    &STAR,
    &INIT,
    &NEW,
    &POST_INIT,
    &CALL,
    &ENTER,
    &EXIT,
    &ASYNC_ENTER,
    &ASYNC_EXIT,
    &ITER,
    &ASYNC_ITER,
    &CONTAINS,
    &GET_ITEM,
    &SET_ITEM,
    &DEL_ITEM,
];

fn shard(text: &str) -> usize {
    let mut hasher = FxHasher::default();
    text.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 60).unwrap_or(0) % SHARDS
}

/// An interned identifier.
#[derive(Clone, Copy)]
pub struct Name(&'static str);

impl Name {
    /// The one name with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut names = INTERNED[shard(text)].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return Self(known);
        }
        let fresh: &'static str = Box::leak(text.to_owned().into_boxed_str());
        names.insert(fresh);
        Self(fresh)
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Starts with an underscore, but is no `__special__` name.
    #[must_use]
    pub fn is_private(self) -> bool {
        self.0.starts_with('_') && !self.is_special()
    }

    /// Of the form `__name__`.
    #[must_use]
    pub fn is_special(self) -> bool {
        self.0.len() > 4 && self.0.starts_with("__") && self.0.ends_with("__")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Name {}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(other.0)
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
