//! On which threads and event loops a function can run, and whether two of them can overlap.
//!
//! An *entry point* is where a thread, a task or an outside caller enters the program. Entry points of one kind form
//! a *group*; threads and timers have a group each. A function belongs to every group from which calls lead to it.
//! In library mode the public functions are entered by outside callers on any thread; whether an object is shared
//! between them is a question of its own, answered by [`Contexts::sharing`].

mod calls;
mod entries;
mod sharing;
mod wrappers;

use facts::Span;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::annotations::Annotations;
use crate::body::{FunctionKind, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId, Project};
use crate::types::{Slot, TypeMap};

pub use calls::CallSite;
pub use sharing::{Reason, Sharing};

/// How threads come to an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// The code of modules, which runs once, on the thread that imports or starts the program; signal and exit
    /// handlers, which run on the main thread.
    Main,
    /// The target of a thread or timer.
    Thread,
    /// Work handed to a pool.
    Pool,
    /// A request handler that runs on a server's threads.
    Handler,
    /// A coroutine that is started as a task, or a callback of the loop.
    Task,
    /// `__del__`, weak reference and garbage collection callbacks: at any allocation, on any thread.
    Finalizer,
    /// Logging hooks: on whatever thread logs.
    Hook,
    /// Outside callers, on any thread.
    Api,
    /// Outside callers of coroutines.
    AsyncApi,
}

/// Where a thread enters.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// How.
    pub kind: EntryKind,
    /// The function that is entered.
    pub func: FuncId,
    /// Where it is handed over, if it is.
    pub site: Option<(FuncId, Val)>,
    /// Can several threads or tasks be in it at once?
    pub multiple: bool,
}

/// Entry points that are told apart from others, but not from one another.
#[derive(Clone, Debug)]
pub struct Group {
    /// How threads come here.
    pub kind: EntryKind,
    /// Can two threads of the group run at once?
    pub multiple: bool,
    /// The entry points.
    pub entries: Vec<Entry>,
}

impl Group {
    /// As the other side of a conflict sees it.
    #[must_use]
    pub fn thread(&self, idx: usize) -> facts::Thread {
        facts::Thread {
            entry: u32::try_from(idx).expect("at most 256 groups"),
            multiple: self.multiple,
            on_event_loop: matches!(self.kind, EntryKind::Task | EntryKind::AsyncApi),
        }
    }
}

/// Which threads run what.
pub struct Contexts {
    /// At most 256.
    pub groups: Vec<Group>,
    /// By function: a bit for each group that reaches it.
    reach: Vec<[u128; 2]>,
    parents: FxHashMap<(u8, FuncId), (FuncId, Val)>,
    /// By function: who calls it.
    pub callers: Vec<Vec<CallSite>>,
    /// By function: whom it calls.
    pub calls: Vec<Vec<CallSite>>,
    sharing: FxHashMap<ClassId, Sharing>,
    /// By function: does a thread, task or hook enter there?
    entered: Vec<bool>,
}

/// Finds entry points, follows calls, and tells which classes have shared instances.
#[must_use]
pub fn infer(project: &Project, types: &TypeMap, annotations: &Annotations, shared: &[String]) -> Contexts {
    let (calls, callers) = calls::graph(project, types);
    let found = entries::find(project, types, &callers);
    let sharing = sharing::find(project, types, annotations, &found, shared);
    let mut entered = vec![false; callers.len()];
    let inside = |kind| !matches!(kind, EntryKind::Api | EntryKind::AsyncApi | EntryKind::Main);
    found.iter().filter(|entry| inside(entry.kind)).for_each(|entry| entered[entry.func.0 as usize] = true);
    let groups = group(found);
    let mut contexts = Contexts {
        groups,
        reach: vec![[0; 2]; callers.len()],
        parents: FxHashMap::default(),
        callers,
        calls,
        sharing,
        entered,
    };
    contexts.spread(project);
    contexts
}

/// How many groups there are before entry points share one; a few more come on top, one or two for each kind.
pub const GROUPS_MAX: usize = 220;

fn group(found: Vec<Entry>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // By group: how many entry points have a site, and the functions entered.
    let mut seen: Vec<(usize, FxHashSet<FuncId>)> = Vec::new();
    for entry in found {
        // A task that is started in one place is one task; handlers are many.
        let started = entry.kind == EntryKind::Task && entry.site.is_some();
        let own = (matches!(entry.kind, EntryKind::Thread | EntryKind::Pool) || started) && groups.len() < GROUPS_MAX;
        let known = groups.iter().zip(&seen).position(|(group, (sited, funcs))| {
            let alike = *sited == if entry.site.is_some() { group.entries.len() } else { 0 };
            group.kind == entry.kind && (!own && alike || funcs.contains(&entry.func))
        });
        let idx = known.unwrap_or_else(|| {
            groups.push(Group { kind: entry.kind, multiple: entry.multiple, entries: Vec::new() });
            seen.push((0, FxHashSet::default()));
            groups.len() - 1
        });
        groups[idx].multiple |= entry.multiple || known.is_some() && own;
        groups[idx].entries.push(entry);
        seen[idx].0 += usize::from(entry.site.is_some());
        seen[idx].1.insert(entry.func);
    }
    groups
}

impl Contexts {
    fn spread(&mut self, project: &Project) {
        for idx in 0..self.groups.len() {
            let (word, bit) = (idx / 128, 1u128 << (idx % 128));
            let key = u8::try_from(idx).expect("at most 256 groups");
            let mut work: std::collections::VecDeque<FuncId> = std::collections::VecDeque::new();
            for entry in &self.groups[idx].entries {
                if self.reach[entry.func.0 as usize][word] & bit == 0 {
                    self.reach[entry.func.0 as usize][word] |= bit;
                    work.push_back(entry.func);
                }
            }
            while let Some(func) = work.pop_front() {
                for call in &self.calls[func.0 as usize] {
                    let callee = call.callee;
                    // What is called by its name alone may be something else; code that runs at import is not entered.
                    let known = !call.guessed && !call.spawns;
                    if self.reach[callee.0 as usize][word] & bit != 0 || !known || is_scope(project, callee) {
                        continue;
                    }
                    self.reach[callee.0 as usize][word] |= bit;
                    self.parents.insert((key, callee), (func, call.at));
                    work.push_back(callee);
                }
            }
        }
    }

    /// Is the function itself where a thread, task or hook enters (outside callers aside)?
    #[must_use]
    pub fn is_entered(&self, func: FuncId) -> bool {
        self.entered[func.0 as usize]
    }

    /// The groups that reach a function.
    pub fn groups_of(&self, func: FuncId) -> impl Iterator<Item = usize> + '_ {
        let mut mask = self.reach[func.0 as usize];
        std::iter::from_fn(move || {
            let word = mask.iter().position(|bits| *bits != 0)?;
            let bit = mask[word].trailing_zeros() as usize;
            mask[word] &= mask[word] - 1;
            Some(word * 128 + bit)
        })
    }

    /// Does a group of this kind reach the function?
    #[must_use]
    pub fn is_reached_by(&self, func: FuncId, kinds: &[EntryKind]) -> bool {
        self.groups_of(func).any(|idx| kinds.contains(&self.groups[idx].kind))
    }

    /// From an entry point of the group to the function: each function with the call that leads to it.
    #[must_use]
    pub fn path(&self, group: usize, func: FuncId) -> Vec<(FuncId, Option<(FuncId, Val)>)> {
        let key = u8::try_from(group).expect("at most 256 groups");
        let mut path = Vec::new();
        let mut at = func;
        for _ in 0..64 {
            let parent = self.parents.get(&(key, at)).copied();
            path.push((at, parent));
            match parent {
                Some((caller, _)) => at = caller,
                None => break,
            }
        }
        path.reverse();
        path
    }

    /// The entry of a group that a path begins with.
    #[must_use]
    pub fn entry(&self, group: usize, func: FuncId) -> Option<&Entry> {
        self.groups[group].entries.iter().find(|entry| entry.func == func)
    }

    /// Why instances of a class are shared between threads, if they are.
    #[must_use]
    pub fn sharing(&self, class: ClassId) -> Option<&Sharing> {
        self.sharing.get(&class)
    }
}

fn is_scope(project: &Project, func: FuncId) -> bool {
    matches!(project.function(func).kind, FunctionKind::Module | FunctionKind::ClassBody)
}

/// Where state is created, for messages.
#[must_use]
pub fn slot_name(project: &Project, slot: Slot) -> Name {
    match slot {
        Slot::Global(_, name) | Slot::Attr(_, name) => name,
        Slot::Local(func, local) => project.function(func).body.locals[local.0 as usize],
    }
}

/// The head of a class.
#[must_use]
pub fn class_span(project: &Project, class: ClassId) -> Span {
    let info = project.class_info(class);
    let file = project.modules[info.module.0 as usize].file;
    let def = project.class(class);
    Span::new(file, def.start, def.head_end)
}
