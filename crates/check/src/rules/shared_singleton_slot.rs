//! See `shared_singleton_slot.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Test};
use crate::body::{LocalId, Op, Val};
use crate::fix;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::Type;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "shared-singleton-slot",
        code: "RP104",
        severity: Severity::Warning,
        summary: "subclasses share the slot in which a base class keeps its one instance",
        docs: include_str!("shared_singleton_slot.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for class in analysis.project.class_ids() {
        let code = analysis.project.class(class).body;
        let func = analysis.project.func_id(analysis.project.class_info(class).module, code);
        if analysis.is_test(func) || analysis.project.class_info(class).subclasses.is_empty() {
            continue;
        }
        let body = analysis.body(func);
        for val in body.vals() {
            let Op::StoreLocal { local, value, .. } = body.op(val) else { continue };
            if matches!(body.op(value), Op::None) {
                found.extend(slot(analysis, class, func, val, body.locals[local.0 as usize]));
            }
        }
    }
}

/// The finding for one slot of a class body.
fn slot(analysis: &Analysis<'_>, class: ClassId, code: FuncId, val: Val, name: Name) -> Option<Finding> {
    let info = analysis.project.class_info(class);
    let heir = heirs(analysis, class).into_iter().find(|heir| shares(analysis, *heir, class, name))?;
    let mut methods: Vec<FuncId> = info.methods.values().copied().collect();
    methods.sort_unstable();
    let (method, store) =
        methods.into_iter().find_map(|method| Some((method, instance_store(analysis, method, class, name)?)))?;
    let place = analysis.text(method, store).to_owned();
    let heir_name = analysis.project.class(heir).name;
    let message =
        format!("`{place}` is one slot for all subclasses, so `{heir_name}` can get an instance of another class");
    let finding = Finding::new(&RULE.info, analysis.span(code, val), message)
        .on(place)
        .within(analysis.symbol(code))
        .also(analysis.span(method, store), "filled here with an instance of whichever class is asked first")
        .also(crate::contexts::class_span(analysis.project, heir), "inherits the slot");
    Some(finding.confidence(Confidence::High).with_fix(fix::own_slot(analysis, class, val)))
}

/// All subclasses of a class, nearest first.
fn heirs(analysis: &Analysis<'_>, class: ClassId) -> Vec<ClassId> {
    let mut all = analysis.project.class_info(class).subclasses.clone();
    let mut at = 0;
    while at < all.len() && all.len() < 64 {
        for heir in &analysis.project.class_info(all[at]).subclasses {
            if !all.contains(heir) {
                all.push(*heir);
            }
        }
        at += 1;
    }
    all
}

/// Does a subclass find the slot of its base: does no class between them make one of its own?
fn shares(analysis: &Analysis<'_>, heir: ClassId, base: ClassId, name: Name) -> bool {
    let between = analysis.project.class_info(heir).mro.iter().take_while(|at| **at != base);
    let own = |class: &ClassId| {
        let code =
            analysis.project.func_id(analysis.project.class_info(*class).module, analysis.project.class(*class).body);
        let body = analysis.body(code);
        body.locals.contains(&name)
    };
    let prepares = analysis.project.method(heir, Name::new("__init_subclass__")).is_some_and(|method| {
        let body = analysis.body(method);
        body.vals().any(|val| matches!(body.op(val), Op::StoreAttr { name: stored, .. } if stored == name))
    });
    !prepares && !between.into_iter().any(own)
}

/// The store that puts a new instance of the asked class into the slot, where the slot has been found empty.
fn instance_store(analysis: &Analysis<'_>, method: FuncId, class: ClassId, name: Name) -> Option<Val> {
    let flags = analysis.types.flags(method);
    if !flags.is_class {
        return None;
    }
    let body = analysis.body(method);
    body.vals().find(|val| {
        let Op::StoreAttr { base, name: stored, value, .. } = body.op(*val) else { return false };
        let on_class = analysis.types.of(method, base).iter().any(|of| matches!(of, Type::Class(_)));
        stored == name
            && on_class
            && makes_asked(analysis, method, value)
            && is_found_empty(analysis, method, *val, class, name)
    })
}

/// `cls()`, `super().__new__(cls)`, `object.__new__(cls)`
fn makes_asked(analysis: &Analysis<'_>, method: FuncId, value: Val) -> bool {
    let body = analysis.body(method);
    let is_cls =
        |val: Val| matches!(body.op(body.origin(val)), Op::Param(0)) || matches!(body.op(val), Op::Local(LocalId(0)));
    let mut at = body.origin(value);
    if let Op::Await(inner) = body.op(at) {
        at = body.origin(inner);
    }
    match body.op(at) {
        Op::Call { func, args } => match body.op(func) {
            Op::Attr { name, .. } if name == "__new__" => body.args(args).first().is_some_and(|arg| is_cls(arg.value)),
            // `await cls.create()`
            Op::Attr { base, name } => is_cls(base) && name.as_str().starts_with("create"),
            _ => is_cls(func),
        },
        _ => false,
    }
}

fn is_found_empty(analysis: &Analysis<'_>, method: FuncId, store: Val, class: ClassId, name: Name) -> bool {
    let owner = analysis.types.owner(analysis.project, class, name);
    let slot = crate::types::Slot::Attr(owner, name);
    let tests = analysis.conditions(method, store);
    tests.iter().any(|test| test.slot == slot && test.test == Test::Absent)
}
