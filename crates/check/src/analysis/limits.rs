//! Limits of the analysis that a run has reached, in words: beyond them less is seen, and people should know.

use super::{Analysis, RIVALS_MAX, is_write};
use crate::contexts::GROUPS_MAX;

impl Analysis<'_> {
    /// What was looked at only in part.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let mut reached = Vec::new();
        if self.contexts.groups.len() >= GROUPS_MAX {
            reached
                .push(format!("more than {GROUPS_MAX} threads, pools and tasks are started: the rest counts as one"));
        }
        let mut n_writes = vec![0usize; self.summaries.slots.len()];
        for access in self.summaries.accesses.iter().filter(|access| !access.owned && is_write(access)) {
            n_writes[access.place.0 as usize] += 1;
            if n_writes[access.place.0 as usize] == RIVALS_MAX + 1 {
                let name = self.place_name(access);
                reached
                    .push(format!("`{name}` is written in more than {RIVALS_MAX} places: the rest is not looked at"));
            }
        }
        reached
    }
}
