//! Flags that are set before what they stand for is there.

use super::Analysis;
use crate::summary::{Access, Touch};
use crate::types::Slot;

impl Analysis<'_> {
    /// Is a container of the same object or module filled after the flag is set, and read by others, who go by the
    /// flag?
    #[must_use]
    pub fn fills_after(&self, flag: &Access) -> bool {
        let is_global = |place| matches!(self.summaries.slot(place), Slot::Global(..));
        let read_elsewhere = |place| {
            self.accesses(place).any(|other| {
                other.func != flag.func && matches!(other.touch, Touch::ItemLoad | Touch::Contains | Touch::Iterate)
            })
        };
        self.accesses_in(flag.func).iter().any(|access| {
            let fills = match access.touch {
                Touch::ItemStore => true,
                Touch::Method(name) => matches!(name.as_str(), "append" | "add" | "update" | "extend"),
                _ => false,
            };
            fills
                && access.act > flag.act
                && !access.owned
                && is_global(access.place) == is_global(flag.place)
                && self.container(access.place).is_some()
                && read_elsewhere(access.place)
        })
    }
}
