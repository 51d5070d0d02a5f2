//! The only room of this crate in which `unsafe` may stand: reference counts, hand-written type slots, and the calls
//! of the C interface that PyO3 has no safe face for. Each block says why it is sound.
//!
//! What holds in here: no Python code (`__hash__`, `__eq__`, `__del__`, a callback, an allocation that may collect)
//! runs while a lock of ours is held; nothing blocks while attached to the interpreter; a panic never leaves a slot.

pub mod async_lock;
pub mod baton;
pub mod call;
pub mod counter;
pub mod detached;
pub mod dict;
pub mod dict_table;
pub mod fresh;
pub mod held;
pub mod lazy;
pub mod list;
pub mod list_items;
pub mod local;
pub mod lock;
pub mod map;
pub mod native_type;
pub mod objects;
pub mod observe;
pub mod once_function;
pub mod patience;
pub mod pin;
pub mod ready;
pub mod refcount;
pub mod reference;
pub mod section;
pub mod set;
pub mod sharing;
pub mod slots;
pub mod symbol;
pub mod tracer;
pub mod watch;
