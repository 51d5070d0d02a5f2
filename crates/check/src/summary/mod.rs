//! What each function does to shared places, and under which locks, on every path.
//!
//! Locks are objects, not names: a lock is the place that holds it. A function called only with a lock held counts as
//! holding it. What a constructor does to its own object is *owned*: nobody else can see it yet.

mod accesses;
mod callbacks;
mod class_state;
pub(crate) mod effects;
mod held;
mod locks;
pub(crate) mod paths;
mod stateful;
pub(crate) mod waits;

pub(crate) use callbacks::Source;
pub(crate) use effects::{Effect, Effects, Given, Maker, What};
pub(crate) use locks::{method_call, says_lock};

use facts::{Lock, LockSet, PlaceId, Span};
use rustc_hash::FxHashMap;

use crate::annotations::Annotations;
use crate::body::{Op, Val};
use crate::contexts::Contexts;
use crate::name::Name;
use crate::parallel;
use crate::project::{FuncId, Project};
use crate::types::{Slot, TypeMap};

/// What is done to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Its value is read.
    Load,
    /// A new value is stored.
    Store(Val),
    /// A value that was computed from the old one is stored; the node is the read.
    Update(Val),
    /// The name or attribute is deleted.
    Delete,
    /// `x[k]`
    ItemLoad,
    /// `x[k] = v`
    ItemStore,
    /// `x[k] += v`, `x[k] = f(x[k])`
    ItemUpdate,
    /// `del x[k]`
    ItemDelete,
    /// `k in x`
    Contains,
    /// `len(x)`
    Len,
    /// Iterated step by step.
    Iterate,
    /// Copied in one step.
    Snapshot,
    /// A method is called on it.
    Method(Name),
    /// An attribute of it is read.
    Member,
    /// It is returned or yielded as it is.
    Escape,
}

/// An access to a shared place.
#[derive(Clone, Debug)]
pub struct Access {
    /// By whom.
    pub func: FuncId,
    /// The node that names the place, or stores to it.
    pub val: Val,
    /// The node that acts on it: the call, the item store, or `val` itself.
    pub act: Val,
    /// The place.
    pub place: PlaceId,
    /// What is done.
    pub touch: Touch,
    /// The object is still owned by its maker.
    pub owned: bool,
    /// Reached through a local that stands for the place.
    pub aliased: bool,
}

/// A stretch of a function in which a lock is held.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// First node inside.
    pub first: u32,
    /// One past the last node inside.
    pub end: u32,
    /// The lock.
    pub lock: Lock,
    /// The node that takes it.
    pub at: Val,
}

/// What is known of one function.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Where locks are held inside.
    pub held: Vec<Held>,
    /// Locks that every caller holds.
    pub entry: LockSet,
    /// Locks that an annotation says every caller holds; they count as held on entry.
    pub required: LockSet,
    /// Runs only while its object is made.
    pub init_only: bool,
    /// By node: who uses its value; `u32::MAX` for none.
    pub consumers: Vec<u32>,
}

/// What is known of all functions.
pub struct Summaries {
    /// By [`PlaceId`].
    pub slots: Vec<Slot>,
    /// By slot.
    pub places: FxHashMap<Slot, PlaceId>,
    /// By [`FuncId`].
    pub functions: Vec<Function>,
    /// All accesses to places that threads may share, in order of the text.
    pub accesses: Vec<Access>,
    /// By lock: who holds it, and the node that takes it.
    pub takers: FxHashMap<PlaceId, Vec<(FuncId, Held)>>,
    /// By place: indices into `accesses`.
    pub by_place: FxHashMap<PlaceId, Vec<u32>>,
    /// Classes of which two instances are not as good as one.
    pub stateful: rustc_hash::FxHashSet<crate::project::ClassId>,
    /// Containers that a class body makes for all instances.
    pub class_state: rustc_hash::FxHashSet<Slot>,
    /// By place: the lock that an annotation says every access holds, and where it says so.
    pub declared_guards: FxHashMap<PlaceId, (Lock, Span)>,
    /// By condition: the lock that it was made over.
    pub lock_of_condition: FxHashMap<Slot, Slot>,
    /// What calls do: locks taken, waits, callbacks.
    pub effects: Effects,
    /// Where locks, events, queues and futures are made.
    pub makers: FxHashMap<Slot, Vec<Maker>>,
}

/// Summarises all functions, callees before callers where it matters.
#[must_use]
pub fn compute(
    project: &Project,
    types: &TypeMap,
    annotations: &Annotations,
    contexts: &Contexts,
    consumers: Consumers,
) -> Summaries {
    let mut summaries = Summaries {
        slots: Vec::new(),
        places: FxHashMap::default(),
        functions: consumers.0.into_iter().map(|consumers| Function { consumers, ..Function::default() }).collect(),
        accesses: Vec::new(),
        takers: FxHashMap::default(),
        by_place: FxHashMap::default(),
        stateful: rustc_hash::FxHashSet::default(),
        class_state: class_state::find(project, types),
        declared_guards: FxHashMap::default(),
        lock_of_condition: FxHashMap::default(),
        effects: Effects::default(),
        makers: FxHashMap::default(),
    };
    locks::find(project, types, annotations, &mut summaries);
    for (func, function) in project.function_ids().zip(&summaries.functions) {
        for held in &function.held {
            summaries.takers.entry(held.lock.place).or_default().push((func, *held));
        }
    }
    held::init_only(project, contexts, &mut summaries);
    summaries.stateful = stateful::find(project, types, &summaries);
    held::at_entry(project, contexts, &mut summaries);
    accesses::collect(project, types, annotations, contexts, &mut summaries);

    let given = Given { project, types, contexts };
    let (effects, makers) = parallel::both(|| effects::compute(given, &summaries), || effects::makers(given));
    summaries.effects = effects;
    summaries.makers = makers;
    summaries
}

/// Does a method with this name change a built-in container?
#[must_use]
pub fn mutating(method: &str) -> bool {
    matches!(
        method,
        "append"
            | "appendleft"
            | "add"
            | "insert"
            | "extend"
            | "extendleft"
            | "update"
            | "setdefault"
            | "pop"
            | "popleft"
            | "popitem"
            | "remove"
            | "discard"
            | "clear"
            | "sort"
            | "reverse"
            | "rotate"
            | "move_to_end"
            | "difference_update"
            | "intersection_update"
            | "symmetric_difference_update"
            | "subtract"
    ) || changes_first(method)
}

/// Does a function with this name change the list that is its first argument? (`heapq`, `bisect`, `random`)
#[must_use]
pub fn changes_first(function: &str) -> bool {
    matches!(
        function,
        "heappush"
            | "heappop"
            | "heapify"
            | "heapreplace"
            | "heappushpop"
            | "insort"
            | "insort_left"
            | "insort_right"
            | "shuffle"
    )
}

/// By function and node: who uses its value; `u32::MAX` for none.
pub struct Consumers(Vec<Vec<u32>>);

/// Who uses what. Needs no types, so it can be told while they are inferred, which takes one thread.
#[must_use]
pub fn consumers(project: &Project) -> Consumers {
    let of = |id: FuncId| {
        let body = &project.function(id).body;
        let mut consumers = vec![u32::MAX; body.nodes.len()];
        for val in body.vals() {
            body.operands(val, |operand| consumers[operand.0 as usize] = val.0);
        }
        consumers
    };
    Consumers(parallel::map(project.function_ids().collect(), of))
}

impl Summaries {
    /// The name of a slot.
    pub fn place(&mut self, slot: Slot) -> PlaceId {
        let next = PlaceId(u32::try_from(self.slots.len()).expect("fewer than 2^32 places"));
        *self.places.entry(slot).or_insert_with(|| {
            self.slots.push(slot);
            next
        })
    }

    /// The slot that a place names.
    #[must_use]
    pub fn slot(&self, place: PlaceId) -> Slot {
        self.slots[place.0 as usize]
    }

    /// What is known of a function.
    #[must_use]
    pub fn function(&self, id: FuncId) -> &Function {
        &self.functions[id.0 as usize]
    }

    /// Who uses the value of a node; of several, the last.
    #[must_use]
    pub fn consumer(&self, func: FuncId, val: Val) -> Option<Val> {
        let found = *self.functions[func.0 as usize].consumers.get(val.0 as usize)?;
        (found != u32::MAX).then_some(Val(found))
    }

    /// The locks held at a node, those of all callers included.
    #[must_use]
    pub fn locks_at(&self, func: FuncId, val: Val) -> LockSet {
        let function = &self.functions[func.0 as usize];
        let mut locks = function.entry.clone();
        for held in &function.held {
            if held.first <= val.0 && val.0 < held.end {
                locks.insert(held.lock);
            }
        }
        locks
    }

    /// The stretch around a node in which a lock is held that is not held on entry; the innermost.
    #[must_use]
    pub fn region_at(&self, func: FuncId, val: Val) -> Option<&Held> {
        let held = self.functions[func.0 as usize].held.iter();
        held.filter(|held| held.first <= val.0 && val.0 < held.end).max_by_key(|held| held.first)
    }

    /// The accesses to a place.
    pub fn accesses_to(&self, place: PlaceId) -> impl Iterator<Item = &Access> {
        self.by_place.get(&place).into_iter().flatten().map(|idx| &self.accesses[*idx as usize])
    }
}

/// Does a node's value come from reading `slot`? The read, if so. Looks through locals and a few operands deep.
#[must_use]
pub fn read_within(project: &Project, types: &TypeMap, func: FuncId, value: Val, slot: Slot) -> Option<Val> {
    let body = &project.function(func).body;
    let mut work = vec![(value, 0)];
    while let Some((at, depth)) = work.pop() {
        if depth > 8 {
            continue;
        }
        match body.op(at) {
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..) if types.slots_of(project, func, at).contains(&slot) => {
                return Some(at);
            }
            // A container that was handed in.
            Op::Local(_) if matches!(slot, Slot::Local(..)) && types.slots_of(project, func, at).contains(&slot) => {
                return Some(at);
            }
            Op::Local(local) => {
                for store in body.reaching(local, at) {
                    if let Op::StoreLocal { value, .. } = body.op(store) {
                        work.push((value, depth + 1));
                    }
                }
            }
            // What a function makes of it is new.
            Op::Function(_) => {}
            _ => body.operands(at, |operand| work.push((operand, depth + 1))),
        }
    }
    None
}
