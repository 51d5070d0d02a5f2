//! See `useless_lock.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Stretch, Test};
use crate::body::{Body, FunctionKind, Op, Val};
use crate::project::FuncId;
use crate::summary::Maker;
use crate::types::{Slot, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "useless-lock",
        code: "RP304",
        severity: Severity::Error,
        summary: "a lock excludes nobody, because nobody else takes the same object",
        docs: include_str!("useless_lock.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions().filter(|func| !analysis.is_test(*func)) {
        let body = analysis.body(func);
        for val in body.vals() {
            found.extend(match body.op(val) {
                Op::Enter { context, .. } => entered_new(analysis, func, context),
                Op::StoreItem { value, .. } => per_key(analysis, func, val, value),
                Op::Return(Some(value)) => memoized(analysis, func, value),
                _ => None,
            });
        }
    }
    let mut slots: Vec<&Slot> = analysis.summaries.makers.keys().collect();
    slots.sort_unstable();
    for slot in slots {
        for maker in analysis.makers(*slot).iter().filter(|maker| !analysis.is_test(maker.func)) {
            if makes_lock(analysis, maker.func, maker.call).is_some() {
                found.extend(stored(analysis, *slot, maker));
            }
        }
    }
}

/// The dotted name of a lock's class, if a call makes a fresh lock.
fn makes_lock(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<&'static str> {
    let body = analysis.body(func);
    let Op::Call { .. } = body.op(call) else { return None };
    let name = analysis.external_callee(func, call)?.as_str();
    let known = matches!(
        name,
        "threading.Lock" | "threading.RLock" | "_thread.allocate_lock" | "_thread.RLock" | "asyncio.Lock"
    );
    known.then_some(name)
}

/// `with Lock():`
fn entered_new(analysis: &Analysis<'_>, func: FuncId, context: Val) -> Option<Finding> {
    let name = makes_lock(analysis, func, context)?;
    let message = format!("`{name}()` is a new lock at each call: it excludes nobody");
    Some(finding(analysis, func, context, message, name.to_owned(), Confidence::High))
}

fn finding(
    analysis: &Analysis<'_>,
    func: FuncId,
    at: Val,
    message: String,
    place: String,
    confidence: Confidence,
) -> Finding {
    Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(place)
        .within(analysis.symbol(func))
        .confidence(confidence)
}

/// `if key not in locks: locks[key] = Lock()`
fn per_key(analysis: &Analysis<'_>, func: FuncId, at: Val, value: Val) -> Option<Finding> {
    let body = analysis.body(func);
    makes_lock(analysis, func, body.origin(value))?;
    let Op::StoreItem { base, .. } = body.op(at) else { return None };
    let slots = analysis.types.slots_of(analysis.project, func, base);
    lazily(analysis, func, at, &slots)
}

/// Is the slot found empty and filled, with no lock held over both?
fn lazily(analysis: &Analysis<'_>, func: FuncId, at: Val, slots: &[Slot]) -> Option<Finding> {
    if analysis.is_import_code(func) || analysis.is_owned_by_maker(func) {
        return None;
    }
    let condition = analysis.conditions(func, at).into_iter().find(|condition| {
        slots.contains(&condition.slot) && matches!(condition.test, Test::Absent | Test::LacksKey(_))
    })?;
    let whole = Stretch { func, from: condition.read, to: at };
    // Tasks of one loop come in at an `await` only.
    let on_loop = makes_lock(analysis, func, made(analysis, func, at)?)? == "asyncio.Lock";
    if on_loop && !analysis.suspends(whole) {
        return None;
    }
    if !analysis.locks_over(whole).is_empty() || !analysis.summaries.locks_at(func, at).is_empty() {
        return None;
    }
    let place = *analysis.summaries.places.get(&condition.slot)?;
    let name = analysis.name_of(place, func);
    let message = format!("`{name}` is a lock that is made on first use: two threads can make two");
    Some(
        finding(analysis, func, at, message, name, Confidence::Medium)
            .also(analysis.span(func, condition.at), "a second thread can pass this test before the lock is stored"),
    )
}

/// What a node stores.
fn made(analysis: &Analysis<'_>, func: FuncId, at: Val) -> Option<Val> {
    let body = analysis.body(func);
    match body.op(at) {
        Op::StoreItem { value, .. }
        | Op::StoreAttr { value, .. }
        | Op::StoreGlobal { value, .. }
        | Op::StoreCaptured { value, .. } => Some(body.origin(value)),
        _ => None,
    }
}

/// A property that makes its lock on first use and keeps it.
fn memoized(analysis: &Analysis<'_>, func: FuncId, value: Val) -> Option<Finding> {
    let body = analysis.body(func);
    let function = analysis.project.function(func);
    let call = body.origin(value);
    let makes = makes_lock(analysis, func, call).is_some_and(|name| name != "asyncio.Lock");
    if !makes || function.class.is_none() || !(is_memoized(analysis, func) || is_fallback(analysis, func)) {
        return None;
    }
    let short = function.name.as_str();
    let name = format!("self.{short}");
    let message = format!("`{name}` makes its lock on first use, without a lock: two threads can get two");
    Some(finding(analysis, func, call, message, name, Confidence::Medium))
}

fn is_memoized(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let function = analysis.project.function(func);
    let parent = analysis.project.sibling(func, function.parent);
    let body = analysis.body(parent);
    function.decorators.iter().any(|decorator| {
        let target = match body.op(*decorator) {
            Op::Call { func, .. } => func,
            _ => *decorator,
        };
        let (Op::Attr { name, .. } | Op::Global(name)) = body.op(target) else { return false };
        let name = name.as_str();
        name == "cached_property" || name == "reify" || name.contains("memoized")
    })
}

/// A method that `__getattr__` calls by a name it puts together, to fill in a missing attribute.
fn is_fallback(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let Some(class) = analysis.project.class_of(func) else { return false };
    let name = analysis.project.function(func).name.as_str();
    let Some(getattr) = analysis.project.method(class, crate::name::Name::new("__getattr__")) else { return false };
    let text = analysis.files.text(analysis.project.head(getattr));
    let _ = text;
    let function = analysis.project.function(getattr);
    let file = analysis.files.get(analysis.project.file_of(getattr));
    let code = file.text.get(function.start as usize..function.end as usize).unwrap_or("");
    let called = name.trim_start_matches('_').split('_').next().unwrap_or("");
    let prefix = format!("_{called}_");
    name.starts_with(&prefix) && called.len() > 3 && code.contains(&prefix) && code.contains("setattr(")
}

/// A lock that is stored: lazily, again, for nobody, or in a local that nobody else sees.
fn stored(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    match slot {
        Slot::Local(owner, _) if owner == maker.func => local(analysis, slot, maker),
        Slot::Local(..) => None,
        _ => lazily(analysis, maker.func, maker.store, &[slot])
            .or_else(|| replaced(analysis, slot, maker))
            .or_else(|| untaken(analysis, slot, maker)),
    }
}

/// A local lock that no other function sees.
fn local(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let func = maker.func;
    let function = analysis.project.function(func);
    let Slot::Local(_, local) = slot else { return None };
    if function.kind != FunctionKind::Def || function.body.stores[local.0 as usize].len() != 1 {
        return None;
    }
    let body = &function.body;
    let mut taken = false;
    for val in body.vals() {
        if !matches!(body.op(val), Op::Local(other) if other == local) {
            continue;
        }
        let user = analysis.summaries.consumer(func, val)?;
        match body.op(user) {
            Op::Enter { .. } => taken = true,
            Op::Attr { name, .. } if matches!(name.as_str(), "acquire" | "release" | "locked") => {
                // `lock.release` that is handed on.
                analysis.summaries.consumer(func, user).filter(|call| is_call_of(body, *call, user))?;
            }
            _ => return None,
        }
    }
    if !taken || is_captured(analysis, func, local) {
        return None;
    }
    let name = body.locals[local.0 as usize].to_string();
    let message = format!("`{name}` is a new lock at each call, and nobody else sees it");
    Some(finding(analysis, func, maker.store, message, name, Confidence::High))
}

fn is_call_of(body: &Body, call: Val, target: Val) -> bool {
    matches!(body.op(call), Op::Call { func, .. } if func == target)
}

fn is_captured(analysis: &Analysis<'_>, owner: FuncId, local: crate::body::LocalId) -> bool {
    let module = analysis.project.module_of(owner);
    let functions = analysis.project.modules[module.0 as usize].functions.iter();
    let captures = |body: &Body| {
        body.vals().any(|val| match body.op(val) {
            Op::Captured(func, other) => other == local && analysis.project.func_id(module, func) == owner,
            _ => false,
        })
    };
    functions.into_iter().any(|function| captures(&function.body))
}

/// A lock that is made in the constructor and replaced while others may hold it.
fn replaced(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let func = maker.func;
    let makers = analysis.makers(slot);
    let first = makers.iter().find(|other| is_first(analysis, other.func))?;
    if is_first(analysis, func) || restores(analysis, func) || !analysis.summaries.locks_at(func, maker.store).is_empty() {
        return None;
    }
    let body = analysis.body(func);
    // The object of another: a copy, not this one.
    let own = match body.op(maker.store) {
        Op::StoreAttr { base, .. } => matches!(body.op(body.origin(base)), Op::Param(0)),
        Op::StoreGlobal { .. } => true,
        _ => false,
    };
    let place = *analysis.summaries.places.get(&slot)?;
    let takers = analysis.functions().filter(|other| *other != func);
    let taken = takers.into_iter().any(|other| {
        let held = &analysis.summaries.function(other).held;
        held.iter().any(|held| held.lock.place == place) && analysis.may_overlap(func, other).is_some()
    });
    if !own || !taken {
        return None;
    }
    let name = analysis.name_of(place, func);
    let message = format!("`{name}` is replaced while others may hold it or wait for it");
    Some(
        finding(analysis, func, maker.store, message, name, Confidence::Medium)
            .also(analysis.span(first.func, first.store), "it is made here first"),
    )
}

fn is_first(analysis: &Analysis<'_>, func: FuncId) -> bool {
    analysis.is_import_code(func) || analysis.is_owned_by_maker(func)
}

/// After a fork or unpickling nobody else has the object; a function that a constructor calls makes it.
fn restores(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let name = analysis.project.function(func).name.as_str().to_ascii_lowercase();
    let handed = analysis.contexts.callers[func.0 as usize].iter().any(|site| {
        let dotted = analysis.external_callee(site.caller, site.at);
        site.as_value && dotted.is_some_and(|dotted| dotted.as_str().contains("fork"))
            || !site.as_value && analysis.is_owned_by_maker(site.caller)
    });
    handed || name.contains("fork") || name.contains("reinit") || name.contains("setstate")
}

/// A private lock that nothing in the program ever reads.
fn untaken(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let name = crate::contexts::slot_name(analysis.project, slot);
    let on_loop = makes_lock(analysis, maker.func, maker.call)? == "asyncio.Lock";
    if on_loop || !name.is_private() || !is_first(analysis, maker.func) {
        return None;
    }
    let read = analysis.functions().any(|func| {
        let body = analysis.body(func);
        body.vals().any(|val| match body.op(val) {
            Op::Attr { base, name: other } if other == name => {
                let slots = analysis.types.slots_of(analysis.project, func, val);
                let unknown = analysis.types.of(func, base).iter().all(|of| matches!(of, Type::None));
                unknown || slots.is_empty() || slots.contains(&slot)
            }
            Op::Global(other) | Op::Str(other) => other == name,
            Op::Import(idx) => {
                let module = &analysis.project.modules[analysis.project.module_of(func).0 as usize];
                module.imports[idx as usize].member == Some(name)
            }
            _ => false,
        })
    });
    let place = *analysis.summaries.places.get(&slot)?;
    let shown = analysis.name_of(place, maker.func);
    let message = format!("nobody takes `{shown}`");
    (!read).then(|| finding(analysis, maker.func, maker.store, message, shown, Confidence::Medium))
}
