//! Questions that take a walk of the whole program: asked by many, answered once, when the first one asks.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::Analysis;
use super::spawned::{Reads, Spawned};
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::types::Slot;

/// The answers so far.
#[derive(Default)]
pub struct Known {
    stores: OnceLock<FxHashMap<Slot, Vec<(FuncId, Val)>>>,
    spawned: OnceLock<Vec<Spawned>>,
    reads: OnceLock<Reads>,
}

impl Analysis<'_> {
    /// What is stored to a slot: the values, in order of the text.
    #[must_use]
    pub fn stores(&self, slot: Slot) -> &[(FuncId, Val)] {
        self.known.stores.get_or_init(|| self.find_stores()).get(&slot).map_or(&[], Vec::as_slice)
    }

    /// All calls that make threads, timers and executors, in order of the text.
    #[must_use]
    pub fn spawned(&self) -> &[Spawned] {
        self.known.spawned.get_or_init(|| self.find_spawned())
    }

    /// Reads of all attributes and globals.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        self.known.reads.get_or_init(|| self.find_reads())
    }

    fn find_stores(&self) -> FxHashMap<Slot, Vec<(FuncId, Val)>> {
        let mut found: FxHashMap<Slot, Vec<(FuncId, Val)>> = FxHashMap::default();
        for func in self.functions() {
            let body = self.body(func);
            for val in body.writes() {
                let (Op::StoreGlobal { value, .. } | Op::StoreAttr { value, .. } | Op::StoreLocal { value, .. }) =
                    body.op(val)
                else {
                    continue;
                };
                for slot in self.slots(func, val) {
                    found.entry(slot).or_default().push((func, value));
                }
            }
        }
        found
    }
}
