//! Which lock a repair holds, how it is written where it is held, and where a new one is made.
//!
//! A new lock is always a `threading.Lock`: a lock of `asyncio` does not keep threads apart.

use facts::{Edit, Lock, LockKind, PlaceId};

use super::import;
use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{BlockKind, FuncIdx, FunctionKind, Op, Val};
use crate::contexts::EntryKind;
use crate::name::Name;
use crate::project::{ClassId, FuncId, Symbol};
use crate::source::outline::{Kind, Role};
use crate::summary::{Access, says_lock};
use crate::types::{Slot, Std, Type};

/// A lock for an access.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// How it is written there.
    pub(super) text: String,
    /// What holds it.
    pub(super) slot: Slot,
    /// The same as a place, if it is used anywhere yet.
    pub(super) place: Option<PlaceId>,
    /// What makes it.
    pub(super) edits: Vec<Edit>,
    /// A lock of the event loop, in a coroutine.
    pub(super) is_async: bool,
}

/// The lock that most accesses to the place hold.
pub(super) fn voted(analysis: &Analysis<'_>, access: &Access) -> Option<Guard> {
    of_lock(analysis, access, analysis.guard(access.place)?.lock)
}

/// A lock that is known.
pub(super) fn of_lock(analysis: &Analysis<'_>, access: &Access, lock: Lock) -> Option<Guard> {
    let is_async = lock.kind == LockKind::EventLoop;
    if is_async && !analysis.project.function(access.func).is_async {
        return None;
    }
    let slot = analysis.summaries.slot(lock.place);
    let text = written(analysis, access, slot)?;
    Some(Guard { text, slot, place: Some(lock.place), edits: Vec::new(), is_async })
}

/// A lock that some other access to the place holds, the most common one.
pub(super) fn seen(analysis: &Analysis<'_>, access: &Access) -> Option<Guard> {
    let mut counts: Vec<(Lock, u32)> = Vec::new();
    for other in analysis.accesses(access.place) {
        for lock in analysis.summaries.locks_at(other.func, other.act).iter() {
            if lock.kind != LockKind::Thread {
                continue;
            }
            match counts.iter_mut().find(|(known, _)| *known == lock) {
                Some((_, n)) => *n += 1,
                None => counts.push((lock, 1)),
            }
        }
    }
    let (lock, _) = counts.into_iter().max_by_key(|(lock, n)| (*n, std::cmp::Reverse(*lock)))?;
    of_lock(analysis, access, lock)
}

/// The one lock of the object or module that has a name for all of its state.
pub(super) fn general(analysis: &Analysis<'_>, access: &Access) -> Option<Guard> {
    let names = ["_lock", "lock", "_mutex", "mutex", "_guard", "_rlock"];
    let found = names.iter().find_map(|name| existing(analysis, access, Name::new(name)));
    found.filter(|_| one_lock(analysis, analysis.summaries.slot(access.place)))
}

/// Does the owner of the place have one thread lock and no other?
fn one_lock(analysis: &Analysis<'_>, slot: Slot) -> bool {
    let slots = analysis.summaries.slots.iter().filter(|other| match (slot, **other) {
        (Slot::Global(one, _), Slot::Global(two, name)) => one == two && !name.as_str().starts_with('?'),
        (Slot::Attr(one, _), Slot::Attr(two, _)) => one == two,
        _ => false,
    });
    slots.filter(|slot| is_thread_lock(analysis, **slot)).count() == 1
}

/// A lock with this name beside the place.
fn existing(analysis: &Analysis<'_>, access: &Access, name: Name) -> Option<Guard> {
    let slot = match analysis.summaries.slot(access.place) {
        Slot::Global(module, _) => Slot::Global(module, name),
        Slot::Attr(class, _) => Slot::Attr(analysis.types.owner(analysis.project, class, name), name),
        Slot::Local(..) => return None,
    };
    if !is_thread_lock(analysis, slot) {
        return None;
    }
    let text = written(analysis, access, slot)?;
    Some(Guard { text, slot, place: analysis.summaries.places.get(&slot).copied(), edits: Vec::new(), is_async: false })
}

fn is_thread_lock(analysis: &Analysis<'_>, slot: Slot) -> bool {
    let types = analysis.types.slot(slot);
    let locks = |of: &Type| matches!(of, Type::Std(Std::Lock | Std::RLock));
    !types.is_empty() && types.iter().all(|of| locks(of) || *of == Type::None) && types.iter().any(locks)
}

/// A lock for this place alone: the one that an earlier repair made, or a new one.
pub(super) fn own(analysis: &Analysis<'_>, sheet: Sheet<'_>, access: &Access) -> Option<Guard> {
    let slot = analysis.summaries.slot(access.place);
    let stem = stem(slot_name(analysis, slot).as_str());
    let endings = if says_lock(&stem) { ["guard", "mutex", "once"] } else { ["lock", "mutex", "guard"] };
    for ending in endings {
        let local = matches!(slot, Slot::Local(..));
        let name = Name::new(&if local { format!("{stem}_{ending}") } else { format!("_{stem}_{ending}") });
        if let Some(guard) = existing(analysis, access, name) {
            return Some(guard);
        }
        if !is_taken(analysis, slot, access.func, name) {
            let class = if interrupts(analysis, access.place) { "RLock" } else { "Lock" };
            let edits = made(analysis, sheet, slot, name, class)?;
            let text = written_beside(analysis, access, slot, name)?;
            let slot = match slot {
                Slot::Global(module, _) => Slot::Global(module, name),
                Slot::Attr(class, _) => Slot::Attr(class, name),
                // The new local has no number yet; it is never looked up.
                Slot::Local(..) => slot,
            };
            return Some(Guard { text, slot, place: None, edits, is_async: false });
        }
    }
    None
}

/// A new lock for all counters and flags of an object together; containers get one each.
pub(super) fn shared(analysis: &Analysis<'_>, sheet: Sheet<'_>, access: &Access) -> Option<Guard> {
    let slot = analysis.summaries.slot(access.place);
    let name = Name::new(SHARED);
    let Slot::Attr(class, _) = slot else { return None };
    let is_own = analysis.container(access.place).is_some() || analysis.is_class_attribute(slot);
    if is_own || has_slots(analysis, class) || is_taken(analysis, slot, access.func, name) {
        return None;
    }
    let info = analysis.project.class_info(class);
    let init = *info.methods.get(&Name::new("__init__"))?;
    if analysis.project.file_of(init) != sheet.file {
        return None;
    }
    let at = first_store(
        analysis,
        sheet,
        init,
        |op| matches!(op, Op::StoreAttr { base, .. } if is_self(analysis, init, base)),
    )?;
    let member = if interrupts(analysis, access.place) { "RLock" } else { "Lock" };
    let lock = new_lock(analysis, sheet, init, u32::MAX, member)?;
    let this = analysis.body(init).locals.first()?;
    let edits = making(lock, &format!("{this}.{name}"), |line| sheet.line_above(at, &line))?;
    let text = written_beside(analysis, access, slot, name)?;
    Some(Guard { text, slot: Slot::Attr(class, name), place: None, edits, is_async: false })
}

/// The name of a lock for all of an object.
const SHARED: &str = "_lock";

impl Guard {
    /// Could holding it here meet another place that is about to hold it? Then each place needs its own.
    pub(super) fn may_nest(&self, analysis: &Analysis<'_>, func: FuncId, nodes: std::ops::Range<u32>) -> bool {
        let Slot::Attr(class, name) = self.slot else { return false };
        let family = |func: &FuncId| {
            let own = analysis.project.class_of(*func);
            own.is_some_and(|own| analysis.project.class_info(own).mro.contains(&class))
        };
        !self.edits.is_empty() && name == SHARED && reached(analysis, func, nodes).iter().any(family)
    }
}

pub(super) fn slot_name(analysis: &Analysis<'_>, slot: Slot) -> Name {
    match slot {
        Slot::Global(_, name) | Slot::Attr(_, name) => name,
        Slot::Local(func, local) => analysis.body(func).locals[local.0 as usize],
    }
}

/// `_monitor` -> `monitor`, `__X` -> `x`
pub(super) fn stem(name: &str) -> String {
    let stem = name.trim_matches('_').to_lowercase();
    if stem.is_empty() { "state".to_owned() } else { stem }
}

fn is_taken(analysis: &Analysis<'_>, slot: Slot, func: FuncId, name: Name) -> bool {
    let project = analysis.project;
    match slot {
        Slot::Global(module, _) => {
            project.globals[module.0 as usize].contains_key(&name) || analysis.body(func).locals.contains(&name)
        }
        Slot::Attr(class, _) => {
            let has = |class: ClassId| {
                analysis.types.has_attr(project, class, name)
                    || project.method(class, name).is_some()
                    || class_names(analysis, class).contains(&name)
            };
            let family = &project.class_info(class).mro;
            family.iter().any(|class| has(*class)) || project.class_info(class).subclasses.iter().any(|sub| has(*sub))
        }
        Slot::Local(owner, _) => [owner, func].iter().any(|func| analysis.body(*func).locals.contains(&name)),
    }
}

/// Names bound in the code of a class.
fn class_names<'a>(analysis: &Analysis<'a>, class: ClassId) -> &'a [Name] {
    let module = analysis.project.class_info(class).module;
    let code = analysis.project.func_id(module, analysis.project.class(class).body);
    &analysis.body(code).locals
}

impl Guard {
    /// How it is written at another access to the same place.
    pub(super) fn written_at(&self, analysis: &Analysis<'_>, other: &Access) -> Option<String> {
        if self.edits.is_empty() {
            return written(analysis, other, self.slot);
        }
        let name = match self.slot {
            Slot::Local(..) => Name::new(&self.text),
            slot => slot_name(analysis, slot),
        };
        let free = self.slot == analysis.summaries.slot(other.place) || !shadows(analysis, other.func, name);
        free.then(|| written_beside(analysis, other, analysis.summaries.slot(other.place), name)).flatten()
    }
}

/// How a lock that is somewhere in the program is written at an access.
fn written(analysis: &Analysis<'_>, access: &Access, lock: Slot) -> Option<String> {
    let (project, func) = (analysis.project, access.func);
    match lock {
        Slot::Global(module, name) => {
            if name.as_str().starts_with('?') {
                return None;
            }
            let here = project.module_of(func);
            let free = !analysis.body(func).locals.contains(&name) || project.function(func).globals.contains(&name);
            if free && (module == here || project.lookup(here, name) == Symbol::Global(module, name)) {
                return Some(name.to_string());
            }
            let (base, text) = base(analysis, access)?;
            analysis.types.of(func, base).contains(&Type::Module(module)).then(|| format!("{text}.{name}"))
        }
        Slot::Attr(class, name) => {
            let has = |of: &Type, on_class: bool| match of {
                Type::Instance(at) => analysis.types.owner(project, *at, name) == class,
                Type::Class(at) => on_class && analysis.types.owner(project, *at, name) == class,
                _ => false,
            };
            let on_class = class_names(analysis, class).contains(&name);
            if let Some((base, text)) = base(analysis, access)
                && analysis.types.of(func, base).iter().any(|of| has(of, on_class))
            {
                return Some(format!("{text}.{name}"));
            }
            through_self(analysis, func, class, name)
                .or_else(|| on_class.then(|| class_text(analysis, func, class, name)).flatten())
        }
        Slot::Local(owner, local) => {
            let name = analysis.body(owner).locals[local.0 as usize];
            let inside = func == owner || is_inside(analysis, func, owner) && !shadows(analysis, func, name);
            inside.then(|| name.to_string())
        }
    }
}

/// How a lock that is about to be made beside the place is written at an access.
fn written_beside(analysis: &Analysis<'_>, access: &Access, slot: Slot, name: Name) -> Option<String> {
    let here = analysis.project.module_of(access.func);
    match slot {
        Slot::Global(module, _) if module == here => Some(name.to_string()),
        Slot::Global(..) => base(analysis, access).map(|(_, text)| format!("{text}.{name}")),
        Slot::Attr(class, _) => base(analysis, access)
            .map(|(_, text)| format!("{text}.{name}"))
            .or_else(|| through_self(analysis, access.func, class, name)),
        Slot::Local(owner, _) => {
            let inside = access.func == owner || is_inside(analysis, access.func, owner);
            (inside && !shadows(analysis, access.func, name)).then(|| name.to_string())
        }
    }
}

/// `self` of the method, where the class has the attribute.
fn through_self(analysis: &Analysis<'_>, func: FuncId, class: ClassId, name: Name) -> Option<String> {
    let own = analysis.project.class_of(func)?;
    let flags = analysis.types.flags(func);
    let related = analysis.project.class_info(own).mro.contains(&class);
    let usable = related && !flags.is_static && !flags.is_class && analysis.kind_of(func) == FunctionKind::Def;
    usable.then(|| analysis.body(func).locals.first().map(|first| format!("{first}.{name}"))).flatten()
}

/// `Class.name`, where the class is a name of the module.
fn class_text(analysis: &Analysis<'_>, func: FuncId, class: ClassId, name: Name) -> Option<String> {
    let own = analysis.project.class(class).name;
    let here = analysis.project.module_of(func);
    (analysis.project.lookup(here, own) == Symbol::Class(class) && !shadows(analysis, func, own))
        .then(|| format!("{own}.{name}"))
}

fn shadows(analysis: &Analysis<'_>, func: FuncId, name: Name) -> bool {
    analysis.body(func).locals.contains(&name)
}

fn is_inside(analysis: &Analysis<'_>, func: FuncId, outer: FuncId) -> bool {
    let mut at = func;
    loop {
        let parent = analysis.project.sibling(at, analysis.project.function(at).parent);
        if parent == outer {
            return true;
        }
        if parent == at {
            return false;
        }
        at = parent;
    }
}

/// The object that the place of an access belongs to, where it is written as names joined by dots.
fn base<'a>(analysis: &Analysis<'a>, access: &Access) -> Option<(Val, &'a str)> {
    let body = analysis.body(access.func);
    let val = if access.aliased { body.origin(access.val) } else { access.val };
    let (Op::Attr { base, .. } | Op::StoreAttr { base, .. } | Op::DelAttr { base, .. }) = body.op(val) else {
        return None;
    };
    let text = analysis.files.text(analysis.span(access.func, base));
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    (!text.is_empty() && text.chars().all(plain)).then_some((base, text))
}

/// The edits that make a lock beside a place.
fn made(analysis: &Analysis<'_>, sheet: Sheet<'_>, slot: Slot, name: Name, lock: &str) -> Option<Vec<Edit>> {
    match slot {
        Slot::Global(module, global) => {
            if analysis.project.modules[module.0 as usize].file != sheet.file {
                return None;
            }
            let code = analysis.project.func_id(module, FuncIdx(0));
            let at = first_store(
                analysis,
                sheet,
                code,
                |op| matches!(op, Op::StoreGlobal { name, .. } | Op::Declare { base: None, name } if name == global),
            );
            let at = at.or_else(|| after_imports(sheet))?;
            place_line(analysis, sheet, code, at, name.as_str(), lock)
        }
        Slot::Attr(class, attribute) => in_class(analysis, sheet, class, attribute, name, lock),
        Slot::Local(owner, local) => {
            let at = first_store(
                analysis,
                sheet,
                owner,
                |op| matches!(op, Op::StoreLocal { local: stored, .. } if stored == local),
            )?;
            place_line(analysis, sheet, owner, at, name.as_str(), lock)
        }
    }
}

fn in_class(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    class: ClassId,
    attribute: Name,
    name: Name,
    lock: &str,
) -> Option<Vec<Edit>> {
    let project = analysis.project;
    let info = project.class_info(class);
    if project.modules[info.module.0 as usize].file != sheet.file {
        return None;
    }
    let code = project.func_id(info.module, project.class(class).body);
    if !analysis.is_class_attribute(Slot::Attr(class, attribute))
        && !has_slots(analysis, class)
        && let Some(init) = info.methods.get(&Name::new("__init__"))
    {
        let at = first_store(
            analysis,
            sheet,
            *init,
            |op| matches!(op, Op::StoreAttr { base, name, .. } | Op::Declare { base: Some(base), name } if name == attribute && is_self(analysis, *init, base)),
        );
        let at = at.or_else(|| last_of(analysis, sheet, *init))?;
        let this = analysis.body(*init).locals.first()?;
        return place_line(analysis, sheet, *init, at, &format!("{this}.{name}"), lock);
    }
    let at = first_store(
        analysis,
        sheet,
        code,
        |op| matches!(op, Op::StoreLocal { local, .. } if analysis.body(code).locals[local.0 as usize] == attribute),
    );
    match at {
        Some(at) => place_line(analysis, sheet, code, at, name.as_str(), lock),
        None => first_in_class(analysis, sheet, class, code, name, lock),
    }
}

pub(super) fn is_self(analysis: &Analysis<'_>, func: FuncId, base: Val) -> bool {
    matches!(analysis.body(func).op(base), Op::Local(local) if local.0 == 0)
}

fn has_slots(analysis: &Analysis<'_>, class: ClassId) -> bool {
    let slots = Name::new("__slots__");
    analysis.project.class_info(class).mro.iter().any(|class| class_names(analysis, *class).contains(&slots))
}

/// The statement of a function's own suite that holds its first node of a kind; none if it stands deeper, where it
/// may not run.
pub(super) fn first_store(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    wanted: impl Fn(Op) -> bool,
) -> Option<usize> {
    let body = analysis.body(func);
    let val = body.vals().find(|val| wanted(body.op(*val)))?;
    let only_rests = body.enclosing(val).all(|(_, block)| matches!(block.kind, BlockKind::Else(_)));
    let found = sheet.outline.at(body.node(val).start)?;
    let suite = &sheet.outline.suites[sheet.outline.statements[found].suite];
    let own = match suite.owner {
        None => true,
        Some(owner) => {
            suite.role == Role::Body && matches!(sheet.outline.statements[owner].kind, Kind::Function | Kind::Class)
        }
    };
    (own && only_rests).then_some(found)
}

/// The last statement of a function's own suite, if the function runs to its end.
fn last_of(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId) -> Option<usize> {
    let function = analysis.project.function(func);
    let outline = sheet.outline;
    let found = outline.at(function.start)?;
    let suite = *outline.parts[found].first()?;
    let last = *outline.suites[suite].statements.last()?;
    let simple = outline.parts[last].is_empty() && outline.statements[last].kind != Kind::Leave;
    (simple && !function.body.block(crate::body::BlockId(0)).leaves).then_some(last)
}

fn after_imports(sheet: Sheet<'_>) -> Option<usize> {
    let top = &sheet.outline.suites[0].statements;
    let head = |idx: &&usize| matches!(sheet.outline.statements[**idx].kind, Kind::Text | Kind::Future | Kind::Import);
    top.iter().take_while(head).last().copied()
}

/// `target = threading.Lock()` on a line of its own after a statement, and the import.
fn place_line(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    at: usize,
    target: &str,
    lock: &str,
) -> Option<Vec<Edit>> {
    let lock = new_lock(analysis, sheet, func, sheet.start(at), lock)?;
    let statement = sheet.outline.statements[at];
    let in_head = statement.suite == 0 && matches!(statement.kind, Kind::Text | Kind::Future | Kind::Import);
    let gap = if in_head { sheet.eol() } else { "" };
    making(lock, target, |line| sheet.line_after(at, &format!("{gap}{line}")))
}

/// `target = Lock()` on the line that `placed` puts it on, and the import that this takes.
pub(super) fn making(
    lock: import::Imported,
    target: &str,
    placed: impl FnOnce(String) -> Option<Edit>,
) -> Option<Vec<Edit>> {
    let mut edits = vec![placed(format!("{target} = {}()", lock.text))?];
    edits.extend(lock.edit);
    Some(edits)
}

fn first_in_class(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    class: ClassId,
    code: FuncId,
    name: Name,
    lock: &str,
) -> Option<Vec<Edit>> {
    let outline = sheet.outline;
    let found = outline.at(analysis.project.class(class).start)?;
    let statements = &outline.suites[*outline.parts[found].first()?].statements;
    let first = *statements.first()?;
    let lock = new_lock(analysis, sheet, code, sheet.start(first), lock)?;
    making(lock, name.as_str(), |line| match outline.statements[first].kind {
        Kind::Text => sheet.line_after(first, &format!("{}{}{line}", sheet.eol(), sheet.indent(sheet.start(first)))),
        Kind::Function => sheet.line_before(first, &format!("{line}{}", sheet.eol())),
        _ => sheet.line_before(first, &line),
    })
}

fn new_lock(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    before: u32,
    member: &str,
) -> Option<import::Imported> {
    let module = analysis.project.module_of(func);
    let at_import = analysis.is_import_code(func);
    let before = if at_import { before } else { u32::MAX };
    let lock = import::member(analysis, sheet, module, "threading", member, before)?;
    let first = lock.text.split('.').next().unwrap_or("");
    (at_import || !shadows(analysis, func, Name::new(first))).then_some(lock)
}

/// Is the place used by code that breaks into other code of the same thread: finalizers, signal handlers? Then a lock
/// that is not reentrant can stop its own thread.
fn interrupts(analysis: &Analysis<'_>, place: PlaceId) -> bool {
    let kinds = [EntryKind::Finalizer, EntryKind::Hook];
    analysis.accesses(place).any(|access| analysis.contexts.is_reached_by(access.func, &kinds))
}

/// May accesses to the place hold the lock?
pub(super) fn suits(analysis: &Analysis<'_>, guard: &Guard, place: PlaceId) -> bool {
    let reentrant = analysis.types.slot(guard.slot).contains(&Type::Std(Std::RLock));
    !guard.edits.is_empty() || reentrant || !interrupts(analysis, place)
}

/// Does running these calls, or anything they call in the project, take the lock?
pub(super) fn is_taken_by(analysis: &Analysis<'_>, func: FuncId, nodes: std::ops::Range<u32>, lock: PlaceId) -> bool {
    if analysis.types.slot(analysis.summaries.slot(lock)).contains(&Type::Std(Std::RLock)) {
        return false;
    }
    let own = &analysis.summaries.function(func).held;
    let held = analysis.summaries.locks_at(func, Val(nodes.start)).holds(lock);
    let already = held
        || is_handled(analysis, func, lock)
        || own.iter().any(|held| held.lock.place == lock && nodes.contains(&held.at.0));
    already
        || reached(analysis, func, nodes)
            .iter()
            .any(|func| analysis.summaries.function(*func).held.iter().any(|held| held.lock.place == lock))
}

/// Does the function acquire or release the lock by hand? Then it may be held already, or stand for a signal.
fn is_handled(analysis: &Analysis<'_>, func: FuncId, lock: PlaceId) -> bool {
    let slot = analysis.summaries.slot(lock);
    analysis.body(func).vals().any(|val| {
        let by_hand = analysis.method_call(func, val).filter(|(_, name)| matches!(*name, "acquire" | "release"));
        by_hand.is_some_and(|(base, _)| analysis.types.slots_of(analysis.project, func, base).contains(&slot))
    })
}

/// The functions of the project that run while these nodes do.
pub(super) fn reached(analysis: &Analysis<'_>, func: FuncId, nodes: std::ops::Range<u32>) -> Vec<FuncId> {
    const FUNCTIONS_MAX: usize = 256;
    let mut found: Vec<FuncId> = Vec::new();
    let calls = &analysis.contexts.calls;
    let inside = calls[func.0 as usize].iter().filter(|site| nodes.contains(&site.at.0) && !site.spawns);
    let mut work: Vec<FuncId> = inside.map(|site| site.callee).collect();
    while let Some(func) = work.pop() {
        if found.contains(&func) || found.len() > FUNCTIONS_MAX {
            continue;
        }
        found.push(func);
        work.extend(calls[func.0 as usize].iter().filter(|site| !site.spawns && !site.guessed).map(|site| site.callee));
    }
    found
}
