//! See `iteration_during_mutation.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, is_write, resizes};
use crate::body::{Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch, mutating};
use crate::types::{Container, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "iteration-during-mutation",
        code: "RP205",
        severity: Severity::Error,
        summary: "a container is iterated while another thread can change its size",
        docs: include_str!("iteration_during_mutation.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        if matches!(analysis.container(place), None | Some(Container::List)) {
            continue;
        }
        for walk in analysis.accesses(place).filter(|access| !access.owned && access.touch == Touch::Iterate) {
            found.extend(finding(analysis, walk));
        }
    }
    for func in analysis.functions().filter(|func| !analysis.is_import_code(*func)) {
        let body = analysis.body(func);
        for val in body.vals() {
            if let Op::Iter { over, .. } = body.op(val) {
                found.extend(modules_finding(analysis, func, over).or_else(|| namespace_finding(analysis, func, over)));
            }
        }
    }
}

/// What a view such as `x.items()` is taken of; otherwise the value itself.
fn viewed(analysis: &Analysis<'_>, func: FuncId, over: Val) -> Val {
    match analysis.method_call(func, over) {
        Some((base, "items" | "keys" | "values")) => base,
        _ => over,
    }
}

/// `for name in sys.modules`: any thread may import something for the first time.
fn modules_finding(analysis: &Analysis<'_>, func: FuncId, over: Val) -> Option<Finding> {
    let of = viewed(analysis, func, over);
    let modules =
        analysis.types.of(func, of).iter().any(|of| matches!(of, Type::External(name) if *name == "sys.modules"));
    let reached =
        analysis.contexts.groups_of(func).any(|group| analysis.contexts.groups[group].kind != EntryKind::Main);
    let message =
        "`sys.modules` is iterated, and any thread that imports something for the first time changes its size";
    (modules && reached).then(|| {
        Finding::new(&RULE.info, analysis.span(func, over), message)
            .on("sys.modules")
            .within(analysis.symbol(func))
            .with_fix(fix::copy_of(analysis, func, over))
    })
}

/// `for name in self.__dict__`: a method that sets an attribute for the first time changes its size.
fn namespace_finding(analysis: &Analysis<'_>, func: FuncId, over: Val) -> Option<Finding> {
    let of = viewed(analysis, func, over);
    let body = analysis.body(func);
    let Op::Attr { base, name } = body.op(of) else { return None };
    if name != "__dict__" || analysis.is_owned_by_maker(func) {
        return None;
    }
    let class = analysis.types.of(func, base).iter().find_map(|of| match of {
        Type::Instance(class) => Some(*class),
        _ => None,
    })?;
    let stretch = analysis.walk_of(func, of, over);
    for slot in analysis.types.attributes_of(analysis.project, class) {
        let Some(place) = analysis.summaries.places.get(&slot) else { continue };
        analysis.sharing(*place).filter(|sharing| sharing.is_direct())?;
        if analysis.accesses(*place).any(|access| access.owned && is_write(access)) {
            continue;
        }
        let stores = |other: &Access| matches!(other.touch, Touch::Store(_) | Touch::Update(_));
        let Some(rival) = analysis.rival(*place, stretch, Action::Read, stores) else { continue };
        let place = format!("{}.__dict__", analysis.files.text(analysis.span(func, base)));
        let setter = analysis.span(rival.access.func, rival.access.act);
        let message = format!("`{place}` is iterated, and another thread can set an attribute for the first time");
        return Some(
            Finding::new(&RULE.info, analysis.span(func, over), message)
                .on(place)
                .within(analysis.symbol(func))
                .also(setter, "an attribute that the constructor does not set is set here")
                .with_fix(fix::copy_of(analysis, func, over))
                .confidence(rival.confidence),
        );
    }
    None
}

/// `self.by_key[key].append(value)`, where a missing key gets a new list.
fn inserts_by_reading(analysis: &Analysis<'_>, access: &Access) -> bool {
    let item = access.act;
    let changes = || {
        let attr = analysis.summaries.consumer(access.func, item)?;
        let call = analysis.summaries.consumer(access.func, attr)?;
        let (base, name) = analysis.method_call(access.func, call)?;
        (base == item && mutating(name)).then_some(())
    };
    access.touch == Touch::ItemLoad && changes().is_some() && makes_missing_items(analysis, access.place)
}

/// Is the place a `defaultdict`?
fn makes_missing_items(analysis: &Analysis<'_>, place: PlaceId) -> bool {
    analysis.accesses(place).any(|access| match access.touch {
        Touch::Store(value) => {
            let made = analysis.external_callee(access.func, analysis.body(access.func).origin(value));
            made.is_some_and(|name| name == "collections.defaultdict")
        }
        _ => false,
    })
}

fn finding(analysis: &Analysis<'_>, walk: &Access) -> Option<Finding> {
    let stretch = analysis.walk(walk);
    let resizes = |other: &Access| resizes(other) || inserts_by_reading(analysis, other);
    let rival = analysis.rival(walk.place, stretch, Action::Update, resizes)?;
    let name = analysis.place_name(walk);
    let who = analysis.who(&rival);
    let change = match rival.access.touch {
        Touch::ItemLoad => format!("looks up a key that is missing: `{name}` gets it"),
        _ => analysis.doing(rival.access),
    };
    let order = vec![
        format!("one {who} is in the middle of `{name}`"),
        format!("another {who} {change}"),
        "the next step of the iteration raises RuntimeError: the container changed size".to_owned(),
    ];
    let message = format!("`{name}` is iterated while another {who} can change its size");
    let finding = analysis.race(&RULE.info, walk, stretch, &rival, message, order);
    Some(finding.with_fix(fix::snapshot(analysis, walk, stretch)))
}
