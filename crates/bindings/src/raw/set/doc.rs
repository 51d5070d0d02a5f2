//! What `help` says of `ThreadSafeSet`.

use std::ffi::CStr;

pub const TYPE: &CStr = c"ThreadSafeSet(iterable=(), /)
--

A set for several threads; made like set.

Each operation on one element is atomic. Iterating gives what the set held at one moment. add_if_absent() and
discard_if_present() say who did it: of all threads that add an element at once, one is told that it was the first.";

pub const COPY: &CStr = c"copy($self, /)
--

What the set holds at one moment, as a ThreadSafeSet.";

pub const UNION: &CStr = c"union($self, /, *others)
--

What is in this set or in the others, as a ThreadSafeSet.";

pub const INTERSECTION: &CStr = c"intersection($self, /, *others)
--

What is in this set and in all others, as a ThreadSafeSet.";

pub const DIFFERENCE: &CStr = c"difference($self, /, *others)
--

What is in this set and in none of the others, as a ThreadSafeSet.";

pub const SYMMETRIC_DIFFERENCE: &CStr = c"symmetric_difference($self, other, /)
--

What is in one of both sets only, as a ThreadSafeSet.";

pub const SNAPSHOT: &CStr = c"snapshot($self, /)
--

What the set holds at one moment, as a plain set.";

pub const ADD_IF_ABSENT: &CStr = c"add_if_absent($self, value, /)
--

Adds the value; true if it was not there before. Of several threads that add it at once, one gets true.";

pub const DISCARD_IF_PRESENT: &CStr = c"discard_if_present($self, value, /)
--

Removes the value; true if it was there. Of several threads that remove it at once, one gets true.";

pub const DISCARD_IF: &CStr = c"discard_if($self, predicate, /)
--

Removes the elements for which predicate(element) is true, one after the other, and returns those that this call
removed, as a list. The predicate runs outside every lock, on what the set held at one moment.";

pub const POP_OR: &CStr = c"pop_or($self, default, /)
--

Removes any element and returns it, or returns the default if there is none.";

pub const DRAIN: &CStr = c"drain($self, /)
--

Takes as many elements out as there are at the call, one after the other, and returns them, as a list. Each element
goes to one caller only; another thread may see the set half empty.";
