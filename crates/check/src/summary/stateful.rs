//! Classes whose instances have state: something changes after the object is made, or it holds what has an identity.

use rustc_hash::FxHashSet;

use super::Summaries;
use crate::body::{Body, Op, Val};
use crate::parallel;
use crate::project::{ClassId, FuncId, Project};
use crate::types::{Std, Type, TypeMap, plain_base};

/// The classes of which two instances are not as good as one.
pub(super) fn find(project: &Project, types: &TypeMap, summaries: &Summaries) -> FxHashSet<ClassId> {
    let changed = parallel::map(project.function_ids().collect(), |func| changes(project, types, summaries, func));
    let mut found: FxHashSet<ClassId> = changed.into_iter().flatten().collect();
    for class in project.class_ids() {
        let keeps = types.attributes_of(project, class).into_iter().any(|slot| {
            types.slot(slot).iter().any(|of| match of {
                Type::Std(std) => !matches!(std, Std::Logger | Std::ContextVar | Std::WeakRef),
                Type::Foreign(_) | Type::Container(_) => true,
                _ => false,
            })
        });
        let inherits =
            project.external_ancestors(class).any(|base| base.as_str() != "object" && !harmless(base.as_str()));
        if keeps || inherits || acts_when_made(project, class) {
            found.insert(class);
        }
    }
    // A class is stateful if an ancestor is.
    let all: Vec<ClassId> = project.class_ids().collect();
    for class in all {
        if project.class_info(class).mro.iter().any(|base| found.contains(base)) {
            found.insert(class);
        }
    }
    found
}

/// Does the constructor do something beside filling its object?
fn acts_when_made(project: &Project, class: ClassId) -> bool {
    let Some(init) = project.class_info(class).methods.get(&crate::name::Name::new("__init__")) else { return false };
    let body = &project.function(*init).body;
    body.vals().any(|val| {
        let Op::Discard(call) = body.op(val) else { return false };
        let Op::Call { func, .. } = body.op(call) else { return false };
        match body.op(func) {
            // `self.method()`, `super().__init__()`, `Base.__init__(self)`: seen where they are defined.
            Op::Attr { base, name } => {
                !matches!(body.op(base), Op::Local(local) if local.0 == 0)
                    && name != "__init__"
                    && attr_base(body, base).is_none()
            }
            Op::Global(_) => true,
            _ => false,
        }
    })
}

fn harmless(base: &str) -> bool {
    plain_base(base)
        || matches!(base.rsplit('.').next(), Some("Generic" | "Protocol" | "ABC" | "ABCMeta" | "Exception" | "type"))
}

/// The classes whose finished objects a function changes.
fn changes(project: &Project, types: &TypeMap, summaries: &Summaries, func: FuncId) -> Vec<ClassId> {
    let body = &project.function(func).body;
    let mut found = Vec::new();
    for val in body.acts() {
        let base = match body.op(val) {
            Op::StoreAttr { base, .. } | Op::DelAttr { base, .. } => Some(base),
            Op::StoreItem { base, .. } | Op::DelItem { base, .. } => attr_base(body, base),
            Op::Call { .. } => match super::method_call(body, val) {
                Some((receiver, name)) if crate::summary::mutating(name) => attr_base(body, receiver),
                _ => None,
            },
            _ => None,
        };
        let Some(base) = base else { continue };
        if makes(project, types, summaries, func, body, base) {
            continue;
        }
        for of in types.of(func, base) {
            if let Type::Instance(class) = of {
                found.push(*class);
            }
        }
    }
    found
}

fn attr_base(body: &Body, val: Val) -> Option<Val> {
    match body.op(val) {
        Op::Attr { base, .. } => Some(base),
        _ => None,
    }
}

/// Is the object still being made here?
fn makes(project: &Project, types: &TypeMap, summaries: &Summaries, func: FuncId, body: &Body, base: Val) -> bool {
    let origin = body.origin(base);
    match body.op(origin) {
        Op::Param(0) => summaries.function(func).init_only,
        Op::Call { func: target, .. } => {
            types.of(func, target).iter().any(|of| matches!(of, Type::Class(_)))
                || matches!(body.op(target), Op::Attr { name, .. } if name == "__new__")
        }
        _ => project.function(func).name == "__new__",
    }
}
