//! Which functions have to be looked at again: those that have read what has changed since.
//!
//! What a function says of types depends on nothing but the slots, returns and nodes that it reads, and saying the
//! same twice changes nothing. So a round may pass over a function of whose sources none has changed.

use rustc_hash::FxHashMap;

use super::Slot;
use crate::project::FuncId;

pub(super) struct Pending {
    due: Vec<bool>,
    of_slots: FxHashMap<Slot, Vec<FuncId>>,
    of_returns: Vec<Vec<FuncId>>,
    of_nodes: Vec<Vec<FuncId>>,
}

impl Pending {
    /// All functions are due.
    pub(super) fn all(count: usize) -> Self {
        Self {
            due: vec![true; count],
            of_slots: FxHashMap::default(),
            of_returns: vec![Vec::new(); count],
            of_nodes: vec![Vec::new(); count],
        }
    }

    /// Is the function due? From here on it is not, until something changes.
    pub(super) fn take(&mut self, func: FuncId) -> bool {
        std::mem::take(&mut self.due[func.0 as usize])
    }

    /// `reader` depends on the types of a slot, or on those of its elements.
    pub(super) fn reads_slot(&mut self, reader: FuncId, slot: Slot) {
        note(self.of_slots.entry(slot).or_default(), reader);
    }

    /// `reader` depends on what a function returns.
    pub(super) fn reads_return(&mut self, reader: FuncId, of: FuncId) {
        note(&mut self.of_returns[of.0 as usize], reader);
    }

    /// `reader` depends on the nodes of another function.
    pub(super) fn reads_nodes(&mut self, reader: FuncId, of: FuncId) {
        note(&mut self.of_nodes[of.0 as usize], reader);
    }

    pub(super) fn slot_changed(&mut self, slot: Slot) {
        let readers = self.of_slots.get(&slot);
        readers.into_iter().flatten().for_each(|reader| self.due[reader.0 as usize] = true);
    }

    pub(super) fn return_changed(&mut self, of: FuncId) {
        self.of_returns[of.0 as usize].iter().for_each(|reader| self.due[reader.0 as usize] = true);
    }

    pub(super) fn nodes_changed(&mut self, of: FuncId) {
        self.of_nodes[of.0 as usize].iter().for_each(|reader| self.due[reader.0 as usize] = true);
    }

    /// What comes in as a parameter has changed.
    pub(super) fn param_changed(&mut self, of: FuncId) {
        self.due[of.0 as usize] = true;
    }
}

/// A function is looked at as a whole, so it stands last if it is there already.
fn note(readers: &mut Vec<FuncId>, reader: FuncId) {
    if readers.last() != Some(&reader) {
        readers.push(reader);
    }
}
