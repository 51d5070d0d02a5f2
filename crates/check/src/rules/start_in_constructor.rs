//! See `start_in_constructor.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Handout, Stretch, is_write};
use crate::body::{Op, Val};
use crate::fix;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::{Slot, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "start-in-constructor",
        code: "RP106",
        severity: Severity::Error,
        summary: "a constructor hands out an object before it is complete",
        docs: include_str!("start_in_constructor.md"),
        on_by_default: true,
    },
    check,
};

/// An attribute that the constructor sets too late.
struct Late {
    name: Name,
    store: Val,
    read: (FuncId, Val),
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let mut seen: Vec<(FuncId, Val)> = Vec::new();
    for class in analysis.project.class_ids() {
        let methods = &analysis.project.class_info(class).methods;
        let Some(init) = methods.get(&Name::new("__init__")).copied().filter(|init| !analysis.is_test(*init)) else {
            continue;
        };
        for handout in analysis.handouts(class, init) {
            if let Some(late) = late(analysis, class, init, &handout).filter(|_| !seen.contains(&handout.origin)) {
                seen.push(handout.origin);
                found.push(started(analysis, init, &handout, &late));
            }
        }
        found.extend(registered(analysis, class, init));
    }
}

/// The first attribute that is set after the object has been handed out, and that the other side reads.
fn late(analysis: &Analysis<'_>, class: ClassId, init: FuncId, handout: &Handout) -> Option<Late> {
    let reach: Vec<FuncId> = handout.entries.iter().flat_map(|entry| analysis.self_reach(*entry)).collect();
    if analysis.waits_until_complete(init, handout.at, &reach) {
        return None;
    }
    set_after(analysis, class, init, handout.at).into_iter().find_map(|(name, store)| {
        let read = reach.iter().find_map(|func| {
            let body = analysis.body(*func);
            let mut reads = body.vals().filter(|val| matches!(body.op(*val), Op::Attr { .. }));
            reads.find(|val| analysis.self_attr(*func, *val) == Some(name)).map(|val| (*func, val))
        })?;
        Some(Late { name, store, read })
    })
}

/// The attributes of `self` that a constructor sets after `at`, and not before.
fn set_after(analysis: &Analysis<'_>, class: ClassId, init: FuncId, at: Val) -> Vec<(Name, Val)> {
    let body = analysis.body(init);
    let mut before: Vec<Name> = Vec::new();
    let mut after = Vec::new();
    for val in body.vals() {
        if val <= at {
            let callees = analysis.self_callees(init, val);
            for func in callees.into_iter().flat_map(|callee| analysis.self_reach(callee)) {
                let inner = analysis.body(func);
                let stores = inner.vals().filter(|store| matches!(inner.op(*store), Op::StoreAttr { .. }));
                before.extend(stores.filter_map(|store| analysis.self_attr(func, store)));
            }
        }
        let Op::StoreAttr { .. } = body.op(val) else { continue };
        let Some(name) = analysis.self_attr(init, val) else { continue };
        if val < at {
            before.push(name);
        } else if !before.contains(&name) && !body.excludes(at, val) && !analysis.has_class_default(class, name) {
            after.push((name, val));
        }
    }
    after
}

fn started(analysis: &Analysis<'_>, init: FuncId, handout: &Handout, late: &Late) -> Finding {
    let (func, at) = handout.origin;
    let name = late.name;
    let entry = handout.entries.first().map_or("", |entry| analysis.symbol(*entry));
    let message = format!("`{entry}` can run before the constructor has set `self.{name}`");
    Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(format!("self.{name}"))
        .within(analysis.symbol(func))
        .also(analysis.span(init, late.store), "set only here")
        .also(analysis.span(late.read.0, late.read.1), "needed here, on the other thread")
        .confidence(Confidence::High)
        .with_fix((func == init).then(|| fix::start_last(analysis, init, at)).flatten())
}

/// The object enters a registry that another thread goes through.
fn registered(analysis: &Analysis<'_>, class: ClassId, init: FuncId) -> Option<Finding> {
    let body = analysis.body(init);
    let shared = |val: Val| analysis.slots(init, val).into_iter().find(|slot| matches!(slot, Slot::Global(..)));
    body.vals().find_map(|at| {
        let slot = match body.op(at) {
            Op::Call { args, .. } => {
                let (base, method) = analysis.method_call(init, at)?;
                let given = body.args(args).iter().any(|arg| analysis.is_self(init, arg.value));
                if !given || !crate::summary::mutating(method) {
                    return None;
                }
                shared(base)?
            }
            Op::StoreItem { base, value, .. } if analysis.is_self(init, value) => shared(base)?,
            Op::StoreGlobal { value, .. } if analysis.is_self(init, value) => shared(at)?,
            _ => return None,
        };
        let place = *analysis.summaries.places.get(&slot)?;
        let stretch = Stretch { func: init, from: at, to: at };
        let rival = analysis.rival(place, stretch, Action::Write, |other| !is_write(other) && other.func != init)?;
        let late = set_after(analysis, class, init, at);
        let (name, store, read) = late
            .into_iter()
            .find_map(|(name, store)| Some((name, store, read_by(analysis, class, rival.their_group, name)?)))?;
        let registry = analysis.name_of(place, init);
        let order = vec![
            format!("one thread enters a new object into `{registry}`"),
            format!("another thread finds it there and reads `{name}`, which does not exist yet"),
            format!("the first sets `self.{name}`"),
        ];
        let action = format!("enters the new object into `{registry}`");
        let evidence = analysis.evidence(stretch, action, &rival, None, order);
        let message = format!("the object is in `{registry}` before the constructor has set `self.{name}`");
        let finding = Finding::new(&RULE.info, analysis.span(init, at), message)
            .on(format!("self.{name}"))
            .within(analysis.symbol(init))
            .also(analysis.span(init, store), "set only here")
            .also(analysis.span(read.0, read.1), "needed here, on another thread");
        Some(finding.confidence(rival.confidence).because(evidence))
    })
}

/// Where code of a group reads an attribute of instances of a class.
fn read_by(analysis: &Analysis<'_>, class: ClassId, group: usize, name: Name) -> Option<(FuncId, Val)> {
    let reached = analysis.functions().filter(|func| analysis.contexts.groups_of(*func).any(|idx| idx == group));
    reached.filter(|func| !analysis.is_owned_by_maker(*func)).find_map(|func| {
        let body = analysis.body(func);
        let read = body.vals().find(|val| match body.op(*val) {
            Op::Attr { base, name: read } if read == name => {
                analysis.types.of(func, base).iter().any(|of| matches!(of, Type::Instance(of) if *of == class))
            }
            _ => false,
        })?;
        Some((func, read))
    })
}
