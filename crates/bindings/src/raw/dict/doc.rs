//! What `help` says of `ThreadSafeDict`.

use std::ffi::CStr;

pub const TYPE: &CStr = c"ThreadSafeDict(*args, **kwargs)
--

A dict for several threads; made like dict.

Each operation on one key is atomic. Iterating, keys(), values() and items() give what the dict held at one moment, as
lists. update_with(), add(), compare_and_set(), pop_if() and get_or_create() read, decide and write in one step.";

pub const GET: &CStr = c"get($self, key, default=None, /)
--

The value of the key, or the default. Takes no lock.";

pub const SETDEFAULT: &CStr = c"setdefault($self, key, default=None, /)
--

The value of the key; where there is none the default is stored and returned. All threads get the same value.";

pub const KEYS: &CStr = c"keys($self, /)
--

The keys at one moment, as a list.";

pub const VALUES: &CStr = c"values($self, /)
--

The values at one moment, as a list.";

pub const ITEMS: &CStr = c"items($self, /)
--

The pairs of key and value at one moment, as a list.";

pub const REVERSED: &CStr = c"__reversed__($self, /)
--

Iterates over the keys that were there at one moment, last one first.";

pub const COPY: &CStr = c"copy($self, /)
--

What the dict holds at one moment, as a ThreadSafeDict.";

pub const SNAPSHOT: &CStr = c"snapshot($self, /)
--

What the dict holds at one moment, as a plain dict.";

pub const UPDATE: &CStr = c"update($self, /, *args, **kwargs)
--

Takes over the pairs of a mapping or of an iterable, and the named ones. The source is read first: if that raises,
nothing has changed. Then all pairs are stored in one step for other writers and for snapshots; who looks up single
keys may see some of them before the others.";

pub const GET_OR_CREATE: &CStr = c"get_or_create($self, key, factory, /)
--

The value of the key; where there is none, factory() is called and its result stored and returned.

Of all threads that ask for a missing key at once, one calls its factory, outside every lock; the others wait for it.
If it raises, the exception goes to that caller, the key stays absent, and one of the others tries next. A factory that
needs the same key, itself or through another thread that waits for this one, raises ReentrantError instead of waiting
for ever.";

pub const UPDATE_WITH: &CStr = c"update_with($self, key, function, /, default=...)
--

Stores function(value of the key) and returns it; no update of another thread is lost.

Where the key is absent the function gets the default; without one KeyError is raised. The function runs outside every
lock, and again if another thread has stored a value meanwhile, so it should do nothing but compute.";

pub const COMPARE_AND_SET: &CStr = c"compare_and_set($self, key, expected, new, /)
--

Stores the new value if the one that is there is, or equals, the expected one; says whether it did. An absent key
equals nothing.";

pub const POP_IF: &CStr = c"pop_if($self, key, condition, default=None, /)
--

Removes the key and returns its value if the condition holds; otherwise returns the default.

The condition is a function of the value, called outside every lock, or a value to compare with.";

pub const ADD: &CStr = c"add($self, key, n=1, /)
--

Adds n to the value of the key, from 0 where it is absent, and returns the new value; no addition is lost.";

pub const ADD_MANY: &CStr = c"add_many($self, keys, /)
--

Adds 1 for each key of an iterable, one key after the other. If the iterable raises, nothing has been added.";
