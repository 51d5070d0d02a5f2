//! What would repair a finding, as edits of its text.
//!
//! Each function takes what a rule has found and gives a fix, or none where the text cannot be changed well: where
//! statements share a line, where a lock would be held across an `await`, where the lock cannot be named. A fix
//! keeps comments and formatting. Whether it helps is not decided here: whoever applies it checks the result again.

mod call;
mod class;
mod context_var;
mod entry;
mod guard;
mod hoist;
mod hold;
mod import;
mod local;
mod merge;
mod once;
mod own_event;
mod pool;
mod primitive;
mod publish;
mod region;
mod sheet;
mod snapshot;
mod step;
mod with;

pub use call::{hand_out_copy, report_error, report_job, through_loop};
pub use class::{own_slot, start_last};
pub use context_var::{of_thread_local, own_for_each};
pub use hoist::{hoisted, hoisted_local, in_constructor, made_early, not_again, one_for_each_key};
pub use hold::{hold_known, hold_lock};
pub use merge::merge_blocks;
pub use once::{double_checked, recheck};
pub use own_event::event_for_each_run;
pub use pool::pooled;
pub use primitive::{loop_lock, reentrant, thread_lock};
pub use publish::publish_last;
pub use snapshot::{copy_of, snapshot};
pub use step::{one_step, read_once};
pub use with::{loop_for_wait, with_for_acquire};

#[cfg(test)]
mod tests;
