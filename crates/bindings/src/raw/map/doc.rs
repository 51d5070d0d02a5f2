//! What `help()` says of the maps.

use std::ffi::CStr;

pub const CONCURRENT_MAP: &CStr = c"ConcurrentMap(source=(), /, *, shards=16, shared=False)
--

A mapping that many threads use at once. Readers, and writers of keys that are there, take no lock.

source is a mapping or an iterable of pairs. As many keys as there are shards (1 to 65536) can be added at the same
time. shared=True takes the map out of reference counting (see raceproof.share): on CPython 3.13 it is never freed then.

Each operation on one key is atomic and linearizable. len(), iteration and the views are weakly consistent. Keys are
in no order. No operation runs Python code (__eq__, __hash__, __del__, functions) under a lock.";

pub const COUNTER_MAP: &CStr = c"CounterMap(source=(), /, *, shards=16, shared=False)
--

Counts by key, which many threads change at once: an addition is one step of the processor, without a lock.

source is a mapping of counts, or an iterable of keys that are counted. A count lies between -2**62 and 2**62 - 1; what
would lead beyond raises OverflowError and changes nothing. A key that is not there has the count 0: c[key] does not
raise. For shards and shared, and for what is atomic, see ConcurrentMap.";

pub const GET: &CStr = c"get($self, key, default=None, /)
--

The value of key, or default.";
pub const ADD: &CStr = c"add($self, key, n=1, /)
--

Adds n to the value of key in one step, and returns the sum. A key that is not there gets n. Values of other types
than int are added with their +, outside all locks, and again if another thread was faster.";
pub const ADD_COUNT: &CStr = c"add($self, key, n=1, /)
--

Adds the int n to the count of key in one step, and returns the sum. Raises OverflowError beyond -2**62 .. 2**62 - 1.";
pub const ADD_MANY: &CStr = c"add_many($self, keys, /)
--

Adds 1 for each key that the iterable keys yields. Each addition is atomic, the call as a whole is not: additions may
take effect late, but not after its end. If the iterable or a key raises, what was counted before stays.";
pub const SET_DEFAULT: &CStr = c"setdefault($self, key, default=None, /)
--

The value of key, which is set to default in the same step if it is not there.";
pub const SET_DEFAULT_COUNT: &CStr = c"setdefault($self, key, default=0, /)
--

The count of key, which is set to default in the same step if it is not there.";
pub const GET_OR_CREATE: &CStr = c"get_or_create($self, key, factory, /)
--

The value of key. If it is not there, factory() is called and its result stored; threads that ask for the same key
meanwhile wait and get the same object. If factory raises, the caller gets the exception, and one of those who wait
tries in its turn. A factory that needs its own key raises ReentrantError instead of waiting for itself.";
pub const UPDATE_WITH: &CStr = c"update_with($self, key, function, /, default=...)
--

Replaces the value of key by function(value) in one step, and returns the new value. function is called outside all
locks, and again if another thread changed the value meanwhile. If key is not there, function gets default; without
default KeyError is raised.";
pub const COMPARE_AND_SET: &CStr = c"compare_and_set($self, key, expected, new, /)
--

Sets the value of key to new if it is expected (the same object, or equal to it), in one step; returns whether it was.";
pub const POP: &CStr = c"pop($self, key, default=..., /)
--

Removes key and returns its value. If it is not there, returns default; without default KeyError is raised.";
pub const POP_IF: &CStr = c"pop_if($self, key, condition, default=None, /)
--

Removes key if condition(value) is true, in one step, and returns the value; else returns default. A condition that
cannot be called is a value that the key must have. condition is called outside all locks, and again if another thread
changed the value meanwhile.";
pub const POP_ITEM: &CStr = c"popitem($self, /)
--

Removes some key, and returns the pair of key and value. Raises KeyError if the map is empty.";
pub const CLEAR: &CStr = c"clear($self, /)
--

Removes all keys, shard by shard; keys that are added meanwhile may stay.";
pub const KEYS: &CStr = c"keys($self, /)
--

A view of the keys, weakly consistent.";
pub const VALUES: &CStr = c"values($self, /)
--

A view of the values, weakly consistent.";
pub const ITEMS: &CStr = c"items($self, /)
--

A view of the pairs of key and value, weakly consistent. Both of a pair were in the map together.";
pub const SNAPSHOT: &CStr = c"snapshot($self, /)
--

A dict of all keys and values. Keys that come and go meanwhile may be in it or not.";
pub const COPY: &CStr = c"copy($self, /)
--

A map of the same class with the same keys and values, as snapshot() shows them.";
pub const COPY_DUNDER: &CStr = c"__copy__($self, /)
--

As copy().";
pub const REDUCE: &CStr = c"__reduce__($self, /)
--

For pickle and copy.deepcopy.";
pub const UPDATE: &CStr = c"update($self, source=(), /, **named)
--

Sets (or, of a CounterMap, adds) the values of a mapping, or of an iterable of pairs, key by key. A CounterMap also takes
an iterable of keys, each of which it counts.";
pub const FROM_KEYS: &CStr = c"fromkeys($type, keys, value=None, /)
--

A new map with these keys, all with the same value.";
pub const CLASS_GETITEM: &CStr = c"__class_getitem__($type, item, /)
--

For annotations such as ConcurrentMap[str, int].";
pub const MOST_COMMON: &CStr = c"most_common($self, n=None, /)
--

The n keys with the largest counts (all if n is None) as pairs of key and count, the largest first.";
pub const TOTAL: &CStr = c"total($self, /)
--

The sum of all counts: of each one that it has at some moment of the call.";
