//! One lock for all calls in the place of a new one for each: made where its owner is made.

use facts::{Edit, Fix, Safety};

use super::sheet::Sheet;
use super::{guard, import};
use crate::analysis::Analysis;
use crate::body::{BlockKind, Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::source::outline::Kind;
use crate::types::{Container, Slot};

/// `with Lock():` -> `with self._lock:` or `with _function_lock:`
#[must_use]
pub fn hoisted(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let (name, mut edits) = home(analysis, sheet, func, call)?;
    let node = analysis.body(func).node(call);
    edits.push(sheet.edit(node.start, node.end, name.clone()));
    Some(fix(&name, edits))
}

/// `lock = Lock()`, `with lock:` -> `with self._lock:`
#[must_use]
pub fn hoisted_local(analysis: &Analysis<'_>, func: FuncId, store: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let body = analysis.body(func);
    let Op::StoreLocal { local, value, .. } = body.op(store) else { return None };
    let (name, mut edits) = home(analysis, sheet, func, value)?;
    let statement = sheet.outline.at(body.node(store).start)?;
    let Kind::Assign(Some(_)) = sheet.outline.statements[statement].kind else { return None };
    edits.push(sheet.without(statement)?);
    for read in body.vals().filter(|val| matches!(body.op(*val), Op::Local(other) if other == local)) {
        let node = body.node(read);
        edits.push(sheet.edit(node.start, node.end, name.clone()));
    }
    Some(fix(&name, edits))
}

fn fix(name: &str, edits: Vec<Edit>) -> Fix {
    Fix { safety: Safety::Unsafe, title: format!("make `{name}` once, for all calls"), edits }
}

/// The class that a call makes, as package and member.
fn made(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<(&'static str, &'static str)> {
    match analysis.external_callee(func, call)?.as_str() {
        "threading.Lock" => Some(("threading", "Lock")),
        "threading.RLock" => Some(("threading", "RLock")),
        "asyncio.Lock" => Some(("asyncio", "Lock")),
        _ => None,
    }
}

/// Where a lock belongs that all calls of a function share: with the object, if the function uses nothing but the
/// object's own state, else with the module. How it is written, and what makes it.
fn home(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId, call: Val) -> Option<(String, Vec<Edit>)> {
    let (package, member) = made(analysis, func, call)?;
    let nodes = 0..super::sheet::as_u32(analysis.body(func).nodes.len());
    // Whoever comes back here while holding the lock would wait for itself.
    let reenters = member != "RLock" && guard::reached(analysis, func, nodes).contains(&func);
    let function = analysis.project.function(func);
    // Nor may others wait until somebody goes on with a generator or coroutine.
    let suspends = function.is_generator || function.is_async && package == "threading";
    if reenters || suspends || analysis.is_import_code(func) {
        return None;
    }
    if let Some((class, init)) = own_state(analysis, sheet, func) {
        let info = analysis.project.class_info(class);
        let is_free = |name: &String| {
            let name = Name::new(name);
            let has = |class: &ClassId| {
                analysis.types.has_attr(analysis.project, *class, name)
                    || analysis.project.method(*class, name).is_some()
            };
            !info.mro.iter().chain(&info.subclasses).any(has)
        };
        let name = ["_lock".to_owned(), format!("_{}_lock", stem(analysis, func))].into_iter().find(is_free)?;
        let at = guard::first_store(
            analysis,
            sheet,
            init,
            |op| matches!(op, Op::StoreAttr { base, .. } if guard::is_self(analysis, init, base)),
        )?;
        let lock = import::member(analysis, sheet, info.module, package, member, u32::MAX)?;
        let this = analysis.body(init).locals.first()?;
        let edits = guard::making(lock, &format!("{this}.{name}"), |line| sheet.line_above(at, &line))?;
        return Some((format!("{}.{name}", analysis.body(func).locals.first()?), edits));
    }
    let module = analysis.project.module_of(func);
    let name = format!("_{}_lock", stem(analysis, func));
    let statement = sheet.outline.around(sheet.outline.at(analysis.body(func).node(call).start)?).last()?;
    let lock = import::member(analysis, sheet, module, package, member, sheet.start(statement))?;
    let taken = Name::new(&name);
    if analysis.project.globals[module.0 as usize].contains_key(&taken) || analysis.body(func).locals.contains(&taken) {
        return None;
    }
    let edits = guard::making(lock, &name, |line| sheet.definition_above(statement, &line))?;
    Some((name, edits))
}

fn stem(analysis: &Analysis<'_>, func: FuncId) -> String {
    guard::stem(analysis.project.function(func).name.as_str())
}

/// The class of a method that uses attributes of its object and no other shared state, and its constructor.
fn own_state(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId) -> Option<(ClassId, FuncId)> {
    let class = analysis.project.class_of(func)?;
    let info = analysis.project.class_info(class);
    let flags = analysis.types.flags(func);
    let init = *info.methods.get(&Name::new("__init__"))?;
    let accesses = analysis.accesses_in(func);
    let own = accesses.iter().all(|access| match analysis.summaries.slot(access.place) {
        slot @ Slot::Attr(owner, _) => info.mro.contains(&owner) && !analysis.is_class_attribute(slot),
        _ => false,
    });
    let usable = own && !accesses.is_empty() && !flags.is_static && !flags.is_class;
    (usable && analysis.project.file_of(init) == sheet.file).then_some((class, init))
}

/// A lock that is made on first use is made with its owner: where None was stored. `at` stores the lock.
#[must_use]
pub fn made_early(analysis: &Analysis<'_>, func: FuncId, at: Val, slot: Slot) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let call = match analysis.body(func).op(at) {
        Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } => value,
        _ => return None,
    };
    let (package, member) = made(analysis, func, call)?;
    let tested =
        only_under_test(analysis, sheet, func, at, |place| vec![format!("{place} is None"), format!("not {place}")])?;
    let (maker, none) = stores_none(analysis, slot)?;
    if analysis.project.file_of(maker) != sheet.file || n_tests(analysis, slot) != 1 {
        return None;
    }
    let node = analysis.body(maker).node(none);
    let before = if analysis.is_import_code(maker) { node.start } else { u32::MAX };
    let lock = import::member(analysis, sheet, analysis.project.module_of(func), package, member, before)?;
    let mut edits = vec![sheet.edit(node.start, node.end, format!("{}()", lock.text)), sheet.without(tested)?];
    edits.extend(lock.edit);
    Some(fix(guard::slot_name(analysis, slot).as_str(), edits))
}

/// How often the program asks whether there is something in a slot.
fn n_tests(analysis: &Analysis<'_>, slot: Slot) -> usize {
    let tests = |func: FuncId| {
        let body = analysis.body(func);
        let asked = |val: Val| match body.op(val) {
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..) | Op::Local(_) => {
                let user = analysis.summaries.consumer(func, val);
                let tested = body
                    .blocks
                    .iter()
                    .any(|block| matches!(block.kind, BlockKind::Then(test) | BlockKind::Loop(test) if test == val));
                (tested || user.is_some_and(|user| matches!(body.op(user), Op::Compare { .. } | Op::Not(_))))
                    && analysis.types.slots_of(analysis.project, func, val).contains(&slot)
            }
            _ => false,
        };
        body.vals().filter(|val| asked(*val)).count()
    };
    analysis.functions().map(tests).sum()
}

/// The one `None` that import code or a constructor stores in a slot.
fn stores_none(analysis: &Analysis<'_>, slot: Slot) -> Option<(FuncId, Val)> {
    let mut found = Vec::new();
    for func in analysis.functions() {
        let body = analysis.body(func);
        for val in body.vals() {
            let (Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreLocal { value, .. }) =
                body.op(val)
            else {
                continue;
            };
            if matches!(body.op(value), Op::None)
                && analysis.types.slots_of(analysis.project, func, val).contains(&slot)
            {
                found.push((func, value));
            }
        }
    }
    let [(func, none)] = found[..] else { return None };
    analysis.makes_first(func).then_some((func, none))
}

/// The `if` that holds nothing but the store and tests nothing but its target.
fn only_under_test(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    store: Val,
    tests: impl Fn(&str) -> Vec<String>,
) -> Option<usize> {
    let outline = sheet.outline;
    let node = analysis.body(func).node(store);
    let stored = outline.at(node.start)?;
    let suite = outline.statements[stored].suite;
    let tested = outline.suites[suite].owner?;
    let alone = outline.suites[suite].statements.len() == 1 && outline.parts[tested].len() == 1;
    let test = sheet.test(suite)?;
    let wanted = outline.statements[tested].kind == Kind::If
        && matches!(outline.statements[stored].kind, Kind::Assign(Some(_)))
        && tests(sheet.slice(node.start, node.end)).contains(&test);
    (alone && wanted).then_some(tested)
}

/// `if k not in locks: locks[k] = Lock()` -> `locks.setdefault(k, Lock())`, which is one step.
#[must_use]
pub fn one_for_each_key(analysis: &Analysis<'_>, func: FuncId, at: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let body = analysis.body(func);
    let Op::StoreItem { base, key, value, .. } = body.op(at) else { return None };
    let text = |val: Val| analysis.files.text(analysis.span(func, val));
    let is_dict = analysis.types.container(analysis.project, func, base) == Some(Container::Dict);
    let tested = only_under_test(analysis, sheet, func, at, |_| vec![format!("{} not in {}", text(key), text(base))])?;
    if !is_dict || !analysis.runtime.container_steps_are_atomic() {
        return None;
    }
    let step = format!("{}.setdefault({}, {})", text(base), text(key), text(value));
    let title = format!("make one lock for each key: `{step}`");
    let edit = sheet.edit(sheet.start(tested), sheet.end(tested), step);
    Some(Fix { safety: Safety::Unsafe, title, edits: vec![edit] })
}

/// The lock that others hold stays: it is not made a second time.
#[must_use]
pub fn not_again(analysis: &Analysis<'_>, func: FuncId, store: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let statement = sheet.outline.at(analysis.body(func).node(store).start)?;
    let Kind::Assign(Some(_)) = sheet.outline.statements[statement].kind else { return None };
    let edits = vec![sheet.without(statement)?];
    Some(Fix { safety: Safety::Unsafe, title: "keep the lock that others hold".to_owned(), edits })
}

/// A property that makes a lock becomes an attribute that the constructor makes.
#[must_use]
pub fn in_constructor(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let (package, member) = made(analysis, func, call)?;
    let function = analysis.project.function(func);
    let outline = sheet.outline;
    let property = outline.at(function.start)?;
    let info = analysis.project.class_info(analysis.project.class_of(func)?);
    let init = *info.methods.get(&Name::new("__init__"))?;
    let [part] = outline.parts[property][..] else { return None };
    let [only] = outline.suites[part].statements[..] else { return None };
    let returns = outline.statements[only].kind == Kind::Leave;
    let at = guard::first_store(
        analysis,
        sheet,
        init,
        |op| matches!(op, Op::StoreAttr { base, .. } if guard::is_self(analysis, init, base)),
    )?;
    if !returns || analysis.project.file_of(init) != sheet.file {
        return None;
    }
    let lock = import::member(analysis, sheet, info.module, package, member, u32::MAX)?;
    let name = format!("{}.{}", analysis.body(init).locals.first()?, function.name);
    let mut edits = guard::making(lock, &name, |line| sheet.line_above(at, &line))?;
    edits.push(sheet.without_block(property)?);
    Some(fix(&name, edits))
}
