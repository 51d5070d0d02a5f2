//! What `help` says of `ThreadSafeList`.

use std::ffi::CStr;

pub const TYPE: &CStr = c"ThreadSafeList(iterable=(), /)
--

A list for several threads; made like list.

Each operation on one item is atomic. Iterating gives what the list held at one moment. append_if(), pop_or(), swap(),
update_at() and drain() read, decide and write in one step.";

pub const REVERSED: &CStr = c"__reversed__($self, /)
--

Iterates over what the list held at one moment, last item first.";

pub const COPY: &CStr = c"copy($self, /)
--

What the list holds at one moment, as a ThreadSafeList.";

pub const SNAPSHOT: &CStr = c"snapshot($self, /)
--

What the list holds at one moment, as a plain list.";

pub const EXTEND: &CStr = c"extend($self, iterable, /)
--

Appends what the iterable gives. It is read first: if it raises, nothing has changed. Then all is appended in one step,
next to one another.";

pub const REMOVE: &CStr = c"remove($self, value, /)
--

Removes the first item that equals the value. Raises ValueError if there is none.";

pub const SORT: &CStr = c"sort($self, /, *, key=None, reverse=False)
--

Sorts in one step: other threads see the old order or the new one, and no empty list as with list.sort.

Where the key function, or comparing the items, is Python code, it runs outside every lock; if other threads change the
list meanwhile it is sorted again, and after the fourth time ValueError is raised, as list.sort does the first time.";

pub const APPEND_IF: &CStr = c"append_if($self, value, predicate, /)
--

Appends the value if predicate(what the list holds, as a plain list) is true; says whether it did.

The predicate runs outside every lock, and again if another thread has changed the list meanwhile.";

pub const POP: &CStr = c"pop($self, index=-1, /)
--

Removes the item at the index and returns it; raises IndexError if there is none.";

pub const POP_OR: &CStr = c"pop_or($self, default, /, index=-1)
--

Removes the item at the index and returns it, or returns the default if there is none.";

pub const SWAP: &CStr = c"swap($self, i, j, /)
--

Exchanges two items in one step. Raises IndexError.";

pub const UPDATE_AT: &CStr = c"update_at($self, index, function, /)
--

Stores function(item at the index) there and returns it; no update of another thread is lost. Raises IndexError.

The function runs outside every lock, and again if another thread has stored an item there meanwhile, so it should do
nothing but compute.";

pub const DRAIN: &CStr = c"drain($self, /)
--

Takes all items out in one step and returns them, as a plain list. The list keeps its memory to be filled again.";
