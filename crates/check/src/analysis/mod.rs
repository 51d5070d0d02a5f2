//! All that a rule may look at, read-only: the project, its contexts and summaries, and the questions rules share.
//!
//! - [`Analysis::rival`]: who can come in between, if anyone (`facts::Conflict` decides).
//! - [`Analysis::conditions`]: which tests of shared state govern a node.
//! - [`Analysis::evidence`]: both sides in words.

mod closings;
mod conditions;
mod creations;
mod declared;
mod ensured;
mod escapes;
pub mod failures;
mod finalizers;
mod flags;
mod footprints;
mod handouts;
mod imports;
mod known;
mod limits;
mod lock_order;
mod locks;
mod loops;
mod makers;
mod objects;
mod ordering;
mod per_call;
mod readiness;
mod remarks;
mod saved;
pub mod signals;
pub mod spawned;
mod stacks;
mod starts;
pub mod turns;
mod waiting;
mod walks;
mod words;

use facts::{Action, Confidence, Conflict, Files, LockSet, PlaceId, Runtime, Span};

use crate::body::{Body, FunctionKind, Op, Val};
use crate::contexts::{Contexts, EntryKind, Sharing};
use crate::name::Name;
use crate::project::{FuncId, Project};
use crate::source::outline::Outlines;
use crate::summary::{Access, Summaries, Touch, mutating};
use crate::types::{Container, Slot, Type, TypeMap};

pub use conditions::{Condition, Test};
pub use creations::Creation;
pub use declared::DeclaredGuard;
pub use escapes::{Escape, Part};
pub use handouts::Handout;
pub use imports::LazyImport;
pub use known::Known;
pub use lock_order::{Cycle, Edge, Witness};
pub use locks::{Reentry, Under};
pub use loops::Loop;
pub use makers::LockReads;
pub use objects::Made;
pub use ordering::is_explicit;
pub use saved::{State, Swap};
pub use stacks::Stacked;

/// What rules read.
pub struct Analysis<'a> {
    /// The texts.
    pub files: &'a Files,
    /// Their statements, for fixes.
    pub outlines: &'a Outlines,
    /// Modules, classes, functions.
    pub project: &'a Project,
    /// Types of nodes and slots.
    pub types: &'a TypeMap,
    /// Entry points and who reaches what.
    pub contexts: &'a Contexts,
    /// Accesses and locks.
    pub summaries: &'a Summaries,
    /// What the built-ins promise.
    pub runtime: Runtime,
    /// What has been asked already.
    pub known: Known,
}

/// The other side of a race.
#[derive(Clone, Copy)]
pub struct Rival<'a> {
    /// What it does.
    pub access: &'a Access,
    /// The group that reaches our side.
    pub our_group: usize,
    /// The group that reaches the other side.
    pub their_group: usize,
    /// How sure we are that the two can meet.
    pub confidence: Confidence,
}

/// One side of a question about races: a compound action that begins at `from` and ends at `to`.
#[derive(Clone, Copy)]
pub struct Stretch {
    /// The function.
    pub func: FuncId,
    /// Its first node.
    pub from: Val,
    /// Its last node.
    pub to: Val,
}

/// How many accesses that could disturb a stretch are looked at: state that is written in more places than this is
/// found by the first of them.
const RIVALS_MAX: usize = 400;

/// How many groups that reach a side are looked at: more of them make a race no more likely.
const SIDES_MAX: usize = 32;

impl<'a> Analysis<'a> {
    /// All functions, in order of their text.
    pub fn functions(&self) -> impl Iterator<Item = FuncId> + use<> {
        self.project.function_ids()
    }

    /// The nodes of a function.
    #[must_use]
    pub fn body(&self, func: FuncId) -> &'a Body {
        &self.project.function(func).body
    }

    /// The text of a node.
    #[must_use]
    pub fn span(&self, func: FuncId, val: Val) -> Span {
        self.project.span(func, val)
    }

    /// `Class.method`; empty at module level.
    #[must_use]
    pub fn symbol(&self, func: FuncId) -> &'static str {
        self.project.function(func).qualname.as_str()
    }

    /// Is the function a test, by its path?
    #[must_use]
    pub fn is_test(&self, func: FuncId) -> bool {
        self.project.is_test[self.project.module_of(func).0 as usize]
    }

    /// Is the node a name of a module or class body, which runs once at import?
    #[must_use]
    pub fn is_import_code(&self, func: FuncId) -> bool {
        matches!(self.project.function(func).kind, FunctionKind::Module | FunctionKind::ClassBody)
    }

    /// All places that are accessed, in the order of their first access.
    pub fn places(&self) -> impl Iterator<Item = PlaceId> + use<'a> {
        let mut seen = vec![false; self.summaries.slots.len()];
        self.summaries.accesses.iter().filter_map(move |access| {
            let idx = access.place.0 as usize;
            (!std::mem::replace(&mut seen[idx], true)).then_some(access.place)
        })
    }

    /// The places that these functions access, in the order of the first access that anything has to each.
    #[must_use]
    pub fn places_in(&self, funcs: impl Iterator<Item = FuncId>) -> Vec<PlaceId> {
        let first = |place: PlaceId| self.summaries.by_place.get(&place).and_then(|all| all.first());
        let inside = funcs.flat_map(|func| self.accesses_in(func));
        let mut found: Vec<_> = inside.map(|access| (first(access.place), access.place)).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|(_, place)| place).collect()
    }

    /// The accesses to a place, in order of their text.
    pub fn accesses(&self, place: PlaceId) -> impl Iterator<Item = &'a Access> + use<'a> {
        let summaries = self.summaries;
        summaries.accesses_to(place)
    }

    /// Why the object that a place belongs to is shared; `None` for globals, containers of classes and captured locals,
    /// which are.
    #[must_use]
    pub fn sharing(&self, place: PlaceId) -> Option<&'a Sharing> {
        match self.summaries.slot(place) {
            slot if self.summaries.class_state.contains(&slot) => None,
            Slot::Attr(class, _) => self.contexts.sharing(class),
            Slot::Global(..) | Slot::Local(..) => None,
        }
    }

    /// How the place is written at an access: `self.x`, `Class.x`, `x`.
    #[must_use]
    pub fn place_name(&self, access: &Access) -> String {
        words::place(self, access.func, access.val, self.summaries.slot(access.place))
    }

    /// How a lock (or any place) is written as seen from a function.
    #[must_use]
    pub fn name_of(&self, place: PlaceId, seen_from: FuncId) -> String {
        words::slot(self, self.summaries.slot(place), seen_from)
    }

    /// The container that a place holds, if any of its types is one.
    #[must_use]
    pub fn container(&self, place: PlaceId) -> Option<Container> {
        let types = self.types.slot(self.summaries.slot(place));
        types.iter().find_map(|of| self.types.container_of(self.project, *of))
    }

    /// The types of a place.
    #[must_use]
    pub fn types_of(&self, place: PlaceId) -> &'a [Type] {
        self.types.slot(self.summaries.slot(place))
    }

    /// Locks held over all of a stretch: by every caller, or in a block that holds both ends.
    #[must_use]
    pub fn locks_over(&self, stretch: Stretch) -> LockSet {
        let function = self.summaries.function(stretch.func);
        let mut locks = function.entry.clone();
        for held in &function.held {
            if held.first <= stretch.from.0 && stretch.to.0 < held.end {
                locks.insert(held.lock);
            }
        }
        locks
    }

    /// Can a task of the same loop run between two nodes? Only at an await, `async for` or `async with` that can
    /// really suspend: awaiting a coroutine of the project that never suspends does not count.
    #[must_use]
    pub fn suspends(&self, stretch: Stretch) -> bool {
        (stretch.from.0..=stretch.to.0).any(|idx| self.suspends_at(stretch.func, Val(idx), 0))
    }

    /// Does the node suspend its coroutine?
    #[must_use]
    pub fn suspends_at(&self, func: FuncId, val: Val, depth: usize) -> bool {
        let body = self.body(func);
        match body.op(val) {
            Op::Await(value) => {
                let callees = match body.op(value) {
                    Op::Call { .. } => self.types.callees(self.project, func, value),
                    _ => return true,
                };
                let known = !callees.is_empty() && callees.iter().all(|callee| !callee.guessed);
                !known || depth > 4 || callees.iter().any(|callee| self.can_suspend(callee.func, depth + 1))
            }
            Op::Iter { is_async, .. } | Op::Enter { is_async, .. } => is_async,
            Op::Yield(_) => self.project.function(func).is_async,
            _ => false,
        }
    }

    fn can_suspend(&self, func: FuncId, depth: usize) -> bool {
        let function = self.project.function(func);
        !function.is_async || function.body.vals().any(|val| self.suspends_at(func, val, depth))
    }

    /// The access that can come in between a stretch's first and last action on `place`: the best of those that
    /// `wanted` admits. "Best" prefers explicit threads to outside callers, then another function, then text order.
    #[must_use]
    pub fn rival(
        &self,
        place: PlaceId,
        ours: Stretch,
        action: Action,
        wanted: impl Fn(&Access) -> bool,
    ) -> Option<Rival<'a>> {
        self.rival_with(place, ours, action, &self.locks_over(ours), true, wanted)
    }

    /// Like [`Self::rival`], with the locks given; `blames_them` leaves out accesses that lack the guard we hold.
    #[must_use]
    pub fn rival_with(
        &self,
        place: PlaceId,
        ours: Stretch,
        action: Action,
        locks: &LockSet,
        blames_them: bool,
        wanted: impl Fn(&Access) -> bool,
    ) -> Option<Rival<'a>> {
        let suspends = self.suspends(ours);
        let mut best: Option<(Rival<'a>, (Confidence, bool))> = None;
        for access in self.accesses(place).filter(|access| !access.owned && wanted(access)).take(RIVALS_MAX) {
            let their_locks = self.summaries.locks_at(access.func, access.act);
            // A finalizer may run on the thread that holds the lock: there, no lock of theirs would help.
            let finalizes = self.contexts.is_reached_by(access.func, &[EntryKind::Finalizer]);
            if blames_them && !finalizes && lacks_our_guard(locks, &their_locks) {
                continue;
            }
            let Some(rival) = self.meet(ours, action, locks, &their_locks, suspends, access) else { continue };
            let rank = (rival.confidence, access.func != ours.func);
            if best.as_ref().is_none_or(|(_, known)| rank > *known) {
                best = Some((rival, rank));
            }
        }
        best.map(|(rival, _)| rival)
    }

    /// Can this access come in between?
    #[must_use]
    pub fn meets(&self, ours: Stretch, action: Action, other: &'a Access) -> bool {
        let their_locks = self.summaries.locks_at(other.func, other.act);
        self.meet(ours, action, &self.locks_over(ours), &their_locks, self.suspends(ours), other).is_some()
    }

    /// Can `other` come in between, and in which groups?
    fn meet(
        &self,
        ours: Stretch,
        action: Action,
        locks: &LockSet,
        their_locks: &LockSet,
        suspends: bool,
        other: &'a Access,
    ) -> Option<Rival<'a>> {
        if self.contradict((ours.func, ours.to), (other.func, other.act)) {
            return None;
        }
        let mut best: Option<Rival<'a>> = None;
        let group = |idx: usize| &self.contexts.groups[idx];
        let (our_span, their_span) = (self.span(ours.func, ours.to), self.span(other.func, other.act));
        let mut first = self.side(other.place, action, facts::Thread::default(), locks, suspends, our_span);
        let mut second =
            self.side(other.place, action_of(other), facts::Thread::default(), their_locks, false, their_span);
        for our_group in self.contexts.groups_of(ours.func).take(SIDES_MAX) {
            for their_group in self.contexts.groups_of(other.func).take(SIDES_MAX) {
                let (one, two) = (group(our_group), group(their_group));
                first.thread = one.thread(our_group);
                second.thread = two.thread(their_group);
                if Conflict::between(&first, &second).is_none()
                    || starts_before(one.kind, two.kind)
                    || !self.may_share(other, ours, our_group, their_group)
                    || self.is_ordered(ours.func, ours.from, ours.to, two)
                    || self.is_ordered(other.func, other.val, other.act, one)
                {
                    continue;
                }
                let confidence = self.confidence(other.place, one.kind, two.kind);
                if best.as_ref().is_none_or(|known| confidence > known.confidence) {
                    best = Some(Rival { access: other, our_group, their_group, confidence });
                }
                if confidence == Confidence::High {
                    return best;
                }
            }
        }
        best
    }

    fn side(
        &self,
        place: PlaceId,
        action: Action,
        thread: facts::Thread,
        locks: &LockSet,
        suspends: bool,
        span: Span,
    ) -> facts::Access {
        facts::Access { place, action, thread, locks: locks.clone(), suspends, owned: false, span }
    }

    fn confidence(&self, place: PlaceId, one: EntryKind, two: EntryKind) -> Confidence {
        let direct = self.sharing(place).is_none_or(Sharing::is_direct);
        let on_thread = |kind| is_explicit(kind) && kind != EntryKind::Task;
        match (is_explicit(one) && is_explicit(two), is_explicit(one) || is_explicit(two)) {
            (true, _) if direct => Confidence::High,
            (true, _) => Confidence::Medium,
            _ if direct => Confidence::Medium,
            // Held by a shared object: outside callers may each hold one of their own.
            (_, true) if on_thread(one) || on_thread(two) => Confidence::Medium,
            _ => Confidence::Low,
        }
    }

    /// The lock that most other accesses to the place hold: at least two thirds, writes counted twice.
    #[must_use]
    pub fn guard(&self, place: PlaceId) -> Option<Guard> {
        let mut total = 0;
        let mut n_accesses = 0;
        let mut counts: Vec<(facts::Lock, u32, u32)> = Vec::new();
        for access in self.accesses(place).filter(|access| !access.owned) {
            let weight = if is_write(access) { 2 } else { 1 };
            total += weight;
            n_accesses += 1;
            for lock in self.summaries.locks_at(access.func, access.act).iter() {
                match counts.iter_mut().find(|(known, ..)| *known == lock) {
                    Some((_, votes, n)) => {
                        *votes += weight;
                        *n += 1;
                    }
                    None => counts.push((lock, weight, 1)),
                }
            }
        }
        let (lock, votes, with) =
            counts.into_iter().max_by_key(|(lock, votes, _)| (*votes, std::cmp::Reverse(lock.place)))?;
        let elected = votes * 3 >= total * 2 && with >= 2;
        (elected || self.keeps_a_test_valid(place, lock, with, n_accesses)).then_some(Guard {
            lock,
            with,
            without: n_accesses - with,
        })
    }

    /// Fewer votes will do for a lock that keeps a test of the place valid until it is written: that is what it is
    /// held for, and a write without it makes the test wrong.
    fn keeps_a_test_valid(&self, place: PlaceId, lock: facts::Lock, with: u32, n_accesses: u32) -> bool {
        let slot = self.summaries.slot(place);
        let holds = |access: &&Access| self.summaries.locks_at(access.func, access.act).holds(lock.place);
        let held = || self.accesses(place).filter(|access| !access.owned).filter(holds);
        let tested = |access: &Access| {
            let user = self.summaries.consumer(access.func, access.val);
            user.is_some_and(|user| matches!(self.body(access.func).op(user), Op::Compare { .. } | Op::Not(_)))
                || self.tests_alone(access)
        };
        with * 2 >= n_accesses
            && with >= 2
            && held().any(is_write)
            && held().any(|access| !is_write(access) && tested(access))
            && matches!(slot, Slot::Attr(..) | Slot::Global(..))
    }

    /// `if self.x:`
    fn tests_alone(&self, access: &Access) -> bool {
        let body = self.body(access.func);
        body.blocks.iter().any(|block| {
            matches!(block.kind, crate::body::BlockKind::Then(test) | crate::body::BlockKind::Else(test) if test == access.val)
        })
    }

    /// Is a function with this name one that makes an object?
    #[must_use]
    pub fn is_owned_by_maker(&self, func: FuncId) -> bool {
        self.summaries.function(func).init_only
    }

    /// Is the value of a name ever stored outside import code?
    #[must_use]
    pub fn is_written_later(&self, place: PlaceId) -> bool {
        self.accesses(place).any(|access| !access.owned && is_write(access))
    }

    /// The method call a node is: receiver and name.
    #[must_use]
    pub fn method_call(&self, func: FuncId, call: Val) -> Option<(Val, &'static str)> {
        crate::summary::method_call(self.body(func), call)
    }

    /// The dotted name of an external function that a node calls.
    #[must_use]
    pub fn external_callee(&self, func: FuncId, call: Val) -> Option<Name> {
        self.types.external_callee(self.project, func, call)
    }
}

/// The guard of a place, by vote.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// The lock.
    pub lock: facts::Lock,
    /// Accesses that hold it.
    pub with: u32,
    /// Accesses that do not.
    pub without: u32,
}

/// We hold a lock for threads and they hold none: the defect is theirs, and `inconsistent-guard` says so there.
fn lacks_our_guard(ours: &LockSet, theirs: &LockSet) -> bool {
    theirs.is_empty() && ours.iter().any(|lock| lock.kind == facts::LockKind::Thread)
}

/// Nobody calls from outside before the program has been imported and started, and the loop runs where it was started.
fn starts_before(one: EntryKind, two: EntryKind) -> bool {
    let after = |kind| matches!(kind, EntryKind::Api | EntryKind::AsyncApi | EntryKind::Task);
    one == EntryKind::Main && (after(two) || two == EntryKind::Main) || two == EntryKind::Main && after(one)
}

/// The action that a touch is.
#[must_use]
pub fn action_of(access: &Access) -> Action {
    match access.touch {
        Touch::Update(_) | Touch::ItemUpdate => Action::Update,
        _ if is_write(access) => Action::Write,
        _ => Action::Read,
    }
}

/// Does the access change the place or what it holds?
#[must_use]
pub fn is_write(access: &Access) -> bool {
    match access.touch {
        Touch::Store(_)
        | Touch::Update(_)
        | Touch::Delete
        | Touch::ItemStore
        | Touch::ItemUpdate
        | Touch::ItemDelete => true,
        Touch::Method(name) => mutating(name.as_str()),
        _ => false,
    }
}

/// Can the access take something out of a container?
#[must_use]
pub fn removes(access: &Access) -> bool {
    match access.touch {
        Touch::ItemDelete => true,
        Touch::Method(name) => matches!(
            name.as_str(),
            "pop"
                | "heappop"
                | "popleft"
                | "popitem"
                | "remove"
                | "discard"
                | "clear"
                | "difference_update"
                | "intersection_update"
        ),
        _ => false,
    }
}

/// Can the access change the size of a container?
#[must_use]
pub fn resizes(access: &Access) -> bool {
    removes(access)
        || match access.touch {
            Touch::ItemStore | Touch::ItemUpdate => true,
            Touch::Method(name) => mutating(name.as_str()) && !matches!(name.as_str(), "sort" | "reverse"),
            _ => false,
        }
}
