//! See `mutable_class_attribute.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Made};
use crate::body::{Op, Val};
use crate::contexts::Reason;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::summary::mutating;
use crate::types::{Container, Slot, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "mutable-class-attribute",
        code: "RP211",
        severity: Severity::Warning,
        summary: "a container in the class body is changed through an instance",
        docs: include_str!("mutable_class_attribute.md"),
        on_by_default: true,
    },
    check,
};

/// A container in a class body.
struct Shared {
    class: ClassId,
    name: Name,
    container: Container,
    code: FuncId,
    store: Val,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let shared: Vec<Shared> = analysis.project.class_ids().flat_map(|class| containers(analysis, class)).collect();
    if shared.is_empty() {
        return;
    }
    let replaced = replaced(analysis);
    let mut told: Vec<(ClassId, Name)> = Vec::new();
    for func in analysis.functions().filter(|func| !analysis.is_test(*func) && !analysis.is_import_code(*func)) {
        let body = analysis.body(func);
        for val in body.acts() {
            let Some((base, name)) = changed(analysis, func, val) else { continue };
            for of in analysis.types.of(func, base) {
                let Type::Instance(class) = *of else { continue };
                let mro = &analysis.project.class_info(class).mro;
                let Some(home) = shared.iter().find(|shared| shared.name == name && mro.contains(&shared.class)) else {
                    continue;
                };
                let own = replaced.iter().any(|(by, which)| *which == name && related(analysis, *by, class));
                if own || told.contains(&(home.class, name)) {
                    continue;
                }
                if let Some(finding) = finding(analysis, func, val, base, home) {
                    told.push((home.class, name));
                    found.push(finding);
                }
            }
        }
    }
}

/// The containers that a class body makes.
fn containers(analysis: &Analysis<'_>, class: ClassId) -> Vec<Shared> {
    if copies_defaults(analysis, class) {
        return Vec::new();
    }
    let code = analysis.class_code(class);
    let body = analysis.body(code);
    let stores = body.vals().filter_map(|store| {
        let Op::StoreLocal { local, value, .. } = body.op(store) else { return None };
        let Some(Made::Container(container)) = analysis.made(code, value) else { return None };
        Some(Shared { class, name: body.locals[local.0 as usize], container, code, store })
    });
    stores.collect()
}

/// Does something make an attribute of each instance out of what stands in the class body?
fn copies_defaults(analysis: &Analysis<'_>, class: ClassId) -> bool {
    let foreign = analysis.project.external_ancestors(class).any(|base| {
        let known = [
            "object",
            "abc.ABC",
            "ABC",
            "Exception",
            "typing.Generic",
            "typing.Protocol",
            "threading.Thread",
            "dict",
            "list",
        ];
        !known.contains(&base.as_str())
    });
    let mro = &analysis.project.class_info(class).mro;
    foreign
        || mro.iter().any(|at| {
            let def = analysis.project.class(*at);
            !def.decorators.is_empty() || def.keywords.iter().any(|(name, _)| *name == "metaclass")
        })
}

/// The attributes that some method gives to instances, with the class of the method.
fn replaced(analysis: &Analysis<'_>) -> Vec<(ClassId, Name)> {
    let mut found = Vec::new();
    for func in analysis.functions() {
        let body = analysis.body(func);
        for val in body.writes() {
            let Op::StoreAttr { base, name, update: false, .. } = body.op(val) else { continue };
            found.extend(analysis.types.of(func, base).iter().filter_map(|of| match of {
                Type::Instance(class) => Some((*class, name)),
                _ => None,
            }));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn related(analysis: &Analysis<'_>, one: ClassId, two: ClassId) -> bool {
    let info = |class| &analysis.project.class_info(class).mro;
    info(one).contains(&two) || info(two).contains(&one)
}

/// `base.name` whose container a node changes: the base and the name.
fn changed(analysis: &Analysis<'_>, func: FuncId, val: Val) -> Option<(Val, Name)> {
    let body = analysis.body(func);
    let attr = match body.op(val) {
        Op::Call { .. } => analysis.method_call(func, val).filter(|(_, name)| mutating(name))?.0,
        Op::StoreItem { base, .. } | Op::DelItem { base, .. } => base,
        Op::StoreAttr { base, name, update: true, .. } => return Some((base, name)),
        _ => return None,
    };
    match body.op(attr) {
        Op::Attr { base, name } => Some((base, name)),
        _ => None,
    }
}

fn finding(analysis: &Analysis<'_>, func: FuncId, val: Val, base: Val, home: &Shared) -> Option<Finding> {
    let (.., confidence) = analysis.overlap_of(func, func)?;
    let locks = analysis.summaries.locks_at(func, val);
    // A lock of the instance shows that somebody wanted to guard it; without one, it may be shared on purpose.
    if is_guarded(analysis, func, val) || locks.is_empty() && is_on_purpose(analysis, func, val, home) {
        return None;
    }
    let class = analysis.project.class(home.class).name;
    let place =
        if analysis.is_self(func, base) { format!("self.{}", home.name) } else { format!("{class}.{}", home.name) };
    let message = format!("`{place}` is one container in the body of `{class}`, changed for all instances");
    let finding = Finding::new(&RULE.info, analysis.span(func, val), message)
        .on(place)
        .within(analysis.symbol(func))
        .also(analysis.span(home.code, home.store), "made once, when the class is defined");
    Some(finding.confidence(confidence.max(Confidence::Low)))
}

/// Does the code say that the container is meant for all instances: by its name, by a use through the class, by its
/// kind, or because there is one instance only?
fn is_on_purpose(analysis: &Analysis<'_>, func: FuncId, val: Val, home: &Shared) -> bool {
    let words =
        ["cache", "caches", "cached", "registry", "instances", "pool", "pools", "memo", "known", "registered", "table"];
    let name = home.name.as_str();
    let slot = Slot::Attr(analysis.types.owner(analysis.project, home.class, home.name), home.name);
    let through_class = analysis.summaries.places.get(&slot).is_some_and(|place| {
        analysis.accesses(*place).any(|access| {
            let body = analysis.body(access.func);
            let (Op::Attr { base, .. } | Op::StoreAttr { base, .. }) = body.op(access.val) else { return false };
            analysis.types.of(access.func, base).iter().any(|of| matches!(of, Type::Class(_)))
        })
    });
    let is_weak = matches!(home.container, Container::WeakDict | Container::WeakSet);
    // A private dictionary that is filled by key is a cache, whatever it is called.
    let is_keyed = home.container == Container::Dict
        && home.name.is_private()
        && matches!(analysis.body(func).op(val), Op::StoreItem { .. });
    let single = analysis
        .contexts
        .sharing(home.class)
        .is_some_and(|sharing| matches!(sharing.reason, Reason::Global | Reason::ClassAttribute | Reason::Descriptor));
    through_class || is_weak || is_keyed || single || name.split('_').any(|word| words.contains(&word))
}

/// Is a lock held that all instances share?
fn is_guarded(analysis: &Analysis<'_>, func: FuncId, val: Val) -> bool {
    analysis.summaries.locks_at(func, val).iter().any(|lock| {
        let slot = analysis.summaries.slot(lock.place);
        matches!(slot, Slot::Global(..)) || analysis.is_class_attribute(slot)
    })
}
