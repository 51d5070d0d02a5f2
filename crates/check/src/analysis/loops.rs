//! Event loops: how many there are, and which functions run on which.

use rustc_hash::FxHashSet;

use super::{Analysis, is_explicit};
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::project::FuncId;
use crate::types::Slot;

/// Functions that run on one loop, or on one of several that are alike.
pub struct Loop {
    /// Where it is started, if that is seen.
    pub site: Option<(FuncId, Val)>,
    /// Do several of them run at once?
    pub multiple: bool,
    /// Is it the loop of the main thread or of a server?
    pub main: bool,
    functions: FxHashSet<FuncId>,
}

impl Loop {
    /// Does the function run on it?
    #[must_use]
    pub fn runs(&self, func: FuncId) -> bool {
        self.functions.contains(&func)
    }
}

impl Analysis<'_> {
    /// The event loops that the program starts, one for each place and thread that starts one. Test files do not
    /// count.
    #[must_use]
    pub fn loops(&self) -> Vec<Loop> {
        let mut found = Vec::new();
        let handed = self.handed_to_threads();
        for func in self.functions().filter(|func| !self.is_test(*func)) {
            let body = self.body(func);
            for val in body.calls() {
                let Op::Call { .. } = body.op(val) else { continue };
                let starts = self.external_callee(func, val).is_some_and(|name| name == "asyncio.run")
                    || matches!(self.method_call(func, val), Some((_, "run_until_complete")));
                if !starts {
                    continue;
                }
                let functions = self.on_loop(&handed, self.started_at(func, val));
                let groups: Vec<usize> = self
                    .contexts
                    .groups_of(func)
                    .filter(|group| {
                        let group = &self.contexts.groups[*group];
                        is_explicit(group.kind) && group.entries.iter().any(|entry| !self.is_test(entry.func))
                    })
                    .collect();
                let threads = |kinds: &[EntryKind]| {
                    groups.iter().filter(|idx| kinds.contains(&self.contexts.groups[**idx].kind)).count()
                };
                let off_main = threads(&[EntryKind::Thread, EntryKind::Pool, EntryKind::Handler]);
                let multiple = off_main > 1
                    || groups.iter().any(|idx| {
                        let group = &self.contexts.groups[*idx];
                        matches!(group.kind, EntryKind::Thread | EntryKind::Pool | EntryKind::Handler) && group.multiple
                    });
                found.push(Loop { site: Some((func, val)), multiple, main: off_main == 0, functions });
            }
        }
        let served = self.contexts.groups.iter().flat_map(|group| &group.entries);
        let served: Vec<FuncId> = served
            .filter(|entry| entry.kind == EntryKind::Task && entry.site.is_none() && !self.is_test(entry.func))
            .map(|entry| entry.func)
            .collect();
        if !served.is_empty() {
            found.push(Loop { site: None, multiple: false, main: true, functions: self.on_loop(&handed, served) });
        }
        found
    }

    /// Where a primitive of a loop is awaited or entered.
    #[must_use]
    pub fn loop_uses(&self, slot: Slot) -> Vec<(FuncId, Val)> {
        let Some(place) = self.summaries.places.get(&slot) else { return Vec::new() };
        let mut found = Vec::new();
        let takers = self.summaries.takers.get(place).into_iter().flatten();
        found.extend(takers.map(|(func, held)| (*func, held.at)));
        for access in self.accesses(*place) {
            let body = self.body(access.func);
            let waits = self.summaries.consumer(access.func, access.act);
            if waits.is_some_and(|user| matches!(body.op(user), Op::Await(_))) {
                found.push((access.func, access.act));
            }
        }
        found
    }

    /// Where functions are handed to threads and pools, and which.
    fn handed_to_threads(&self) -> FxHashSet<(FuncId, Val, FuncId)> {
        let entries = self.contexts.groups.iter().flat_map(|group| &group.entries);
        let to_thread = entries.filter(|entry| matches!(entry.kind, EntryKind::Thread | EntryKind::Pool));
        to_thread.filter_map(|entry| entry.site.map(|(func, at)| (func, at, entry.func))).collect()
    }

    /// What a coroutine runs on its own loop: all that it calls or starts as tasks, but not what it hands to threads.
    fn on_loop(&self, handed: &FxHashSet<(FuncId, Val, FuncId)>, entered: Vec<FuncId>) -> FxHashSet<FuncId> {
        let mut seen: FxHashSet<FuncId> = FxHashSet::default();
        let mut work = entered;
        while let Some(func) = work.pop() {
            if !seen.insert(func) {
                continue;
            }
            for site in &self.contexts.calls[func.0 as usize] {
                let to_thread = site.spawns && handed.contains(&(func, site.at, site.callee));
                if !to_thread && !site.guessed {
                    work.push(site.callee);
                }
            }
        }
        seen
    }
}
