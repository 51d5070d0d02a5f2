//! Containers that a class body makes and no instance replaces: one for all instances, though methods reach it
//! through `self`.

use rustc_hash::FxHashSet;

use crate::body::{Display, Op};
use crate::name::Name;
use crate::parallel;
use crate::project::{ClassId, FuncId, Project};
use crate::types::{Slot, Type, TypeMap};

/// The slots of such containers.
pub(super) fn find(project: &Project, types: &TypeMap) -> FxHashSet<Slot> {
    let made = parallel::map(project.class_ids().collect(), |class| containers(project, types, class));
    let mut found: FxHashSet<Slot> = made.into_iter().flatten().collect();
    if found.is_empty() {
        return found;
    }
    let names: FxHashSet<Name> = found.iter().filter_map(|slot| name_of(*slot)).collect();
    let replaced = parallel::map(project.function_ids().collect(), |func| replaced(project, types, func, &names));
    for slot in replaced.into_iter().flatten() {
        found.remove(&slot);
    }
    found
}

fn name_of(slot: Slot) -> Option<Name> {
    match slot {
        Slot::Attr(_, name) => Some(name),
        _ => None,
    }
}

/// Private containers in the body of a class that makes nothing else of them.
fn containers(project: &Project, types: &TypeMap, class: ClassId) -> Vec<Slot> {
    let code = project.func_id(project.class_info(class).module, project.class(class).body);
    let body = &project.function(code).body;
    let is_made = |value| match body.op(value) {
        Op::Display(kind, _) => matches!(kind, Display::List | Display::Dict | Display::Set),
        Op::Call { .. } => types.container(project, code, value).is_some(),
        _ => false,
    };
    let stores = body.writes().filter_map(|val| match body.op(val) {
        Op::StoreLocal { local, value, update: false } => {
            let name = body.locals[local.0 as usize];
            (name.is_private() && is_made(value)).then_some(name)
        }
        _ => None,
    });
    let names: Vec<Name> = stores.collect();
    if names.is_empty() || makes_attributes(project, class) || project.is_test[project.module_of(code).0 as usize] {
        return Vec::new();
    }
    names.into_iter().map(|name| Slot::Attr(types.owner(project, class, name), name)).collect()
}

/// Does a decorator, a metaclass or a base outside the project make attributes of instances out of the class body?
fn makes_attributes(project: &Project, class: ClassId) -> bool {
    let foreign = project.external_ancestors(class).any(|base| {
        let plain = ["object", "abc.ABC", "ABC", "typing.Generic", "typing.Protocol", "threading.Thread", "type"];
        !plain.contains(&base.as_str())
    });
    foreign
        || project.class_info(class).mro.iter().any(|at| {
            let def = project.class(*at);
            !def.decorators.is_empty() || def.keywords.iter().any(|(name, _)| *name == "metaclass")
        })
}

/// The slots with one of these names that a function gives a new value through an instance.
fn replaced(project: &Project, types: &TypeMap, func: FuncId, names: &FxHashSet<Name>) -> Vec<Slot> {
    let body = &project.function(func).body;
    let mut found = Vec::new();
    for val in body.writes() {
        let Op::StoreAttr { base, name, .. } = body.op(val) else { continue };
        let through_class = || types.of(func, base).iter().all(|of| matches!(of, Type::Class(_)));
        if names.contains(&name) && !through_class() {
            found.extend(types.slots_of(project, func, val));
        }
    }
    found
}
