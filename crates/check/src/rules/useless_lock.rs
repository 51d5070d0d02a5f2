//! See `useless_lock.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, LockReads, Stretch, Test};
use crate::body::{Body, FunctionKind, Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::Maker;
use crate::types::Slot;

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
    let reads = analysis.lock_reads();
    for slot in slots {
        for maker in analysis.makers(*slot).iter().filter(|maker| !analysis.is_test(maker.func)) {
            if makes_lock(analysis, maker.func, maker.call).is_some() {
                found.extend(stored(analysis, &reads, *slot, maker));
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
    let finding = finding(analysis, func, context, message, name.to_owned(), Confidence::High);
    Some(finding.with_fix(fix::hoisted(analysis, func, context)))
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
            .also(analysis.span(func, condition.at), "a second thread can pass this test before the lock is stored")
            .with_fix(match condition.test {
                Test::LacksKey(_) => fix::one_for_each_key(analysis, func, at),
                _ => fix::made_early(analysis, func, at, condition.slot),
            }),
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
    if !makes || function.class.is_none() {
        return None;
    }
    let short = match analysis.is_memoized(func) {
        true => function.name.as_str(),
        false => analysis.fallback_for(func)?,
    };
    let name = format!("self.{short}");
    let message = format!("`{name}` makes its lock on first use, without a lock: two threads can get two");
    let finding = finding(analysis, func, call, message, name, Confidence::Medium);
    let cached = analysis.is_memoized(func).then(|| fix::in_constructor(analysis, func, call)).flatten();
    Some(finding.with_fix(cached))
}

/// A lock that is stored: lazily, again, for nobody, or in a local that nobody else sees.
fn stored(analysis: &Analysis<'_>, reads: &LockReads, slot: Slot, maker: &Maker) -> Option<Finding> {
    match slot {
        Slot::Local(owner, _) if owner == maker.func => local(analysis, slot, maker),
        Slot::Local(..) => None,
        _ => lazily(analysis, maker.func, maker.store, &[slot])
            .or_else(|| replaced(analysis, slot, maker))
            .or_else(|| untaken(analysis, reads, slot, maker)),
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
    if !taken || analysis.is_captured(func, local) {
        return None;
    }
    let name = body.locals[local.0 as usize].to_string();
    let message = format!("`{name}` is a new lock at each call, and nobody else sees it");
    let finding = finding(analysis, func, maker.store, message, name, Confidence::High);
    Some(finding.with_fix(fix::hoisted_local(analysis, func, maker.store)))
}

fn is_call_of(body: &Body, call: Val, target: Val) -> bool {
    matches!(body.op(call), Op::Call { func, .. } if func == target)
}

/// A lock that is made in the constructor and replaced while others may hold it.
fn replaced(analysis: &Analysis<'_>, slot: Slot, maker: &Maker) -> Option<Finding> {
    let func = maker.func;
    let makers = analysis.makers(slot);
    let first = makers.iter().find(|other| analysis.makes_first(other.func))?;
    if analysis.makes_first(func)
        || analysis.restores(func)
        || !analysis.summaries.locks_at(func, maker.store).is_empty()
    {
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
    let takes = |other: FuncId| {
        let held = &analysis.summaries.function(other).held;
        other != func && held.iter().any(|held| held.lock.place == place) && analysis.may_overlap(func, other).is_some()
    };
    if !own || !analysis.functions().any(takes) {
        return None;
    }
    let name = analysis.name_of(place, func);
    let message = format!("`{name}` is replaced while others may hold it or wait for it");
    Some(
        finding(analysis, func, maker.store, message, name, Confidence::Medium)
            .also(analysis.span(first.func, first.store), "it is made here first")
            .with_fix(fix::not_again(analysis, func, maker.store)),
    )
}

/// A private lock that nothing in the program ever reads.
fn untaken(analysis: &Analysis<'_>, reads: &LockReads, slot: Slot, maker: &Maker) -> Option<Finding> {
    let name = crate::contexts::slot_name(analysis.project, slot);
    let on_loop = makes_lock(analysis, maker.func, maker.call)? == "asyncio.Lock";
    if on_loop || !name.is_private() || !analysis.makes_first(maker.func) {
        return None;
    }
    let read = reads.has(slot, name);
    let place = *analysis.summaries.places.get(&slot)?;
    let named = analysis.summaries.declared_guards.values().any(|(lock, _)| lock.place == place);
    let shown = analysis.name_of(place, maker.func);
    let message = format!("nobody takes `{shown}`");
    (!read && !named).then(|| finding(analysis, maker.func, maker.store, message, shown, Confidence::Medium))
}
