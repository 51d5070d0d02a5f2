//! See `torn_read.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, Lock, PlaceId, RuleInfo, Severity};
use rustc_hash::FxHashMap;

use super::Rule;
use crate::analysis::{Analysis, Rival, Stretch, Test, is_write};
use crate::body::{BlockKind, Op, Val};
use crate::fix;
use crate::project::{FuncId, ModuleId};
use crate::summary::{Access, Touch};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "torn-read",
        code: "RP212",
        severity: Severity::Error,
        summary: "fields that are written together under one lock are read apart without it",
        docs: include_str!("torn_read.md"),
        on_by_default: true,
    },
    check,
};

/// A locked block: the function, the node that takes the lock (none where every caller holds it), and the lock.
type Block = (FuncId, Option<Val>, Lock);

/// A field that only locked blocks write.
struct Field {
    place: PlaceId,
    owner: Owner,
    blocks: Vec<Block>,
}

/// Fields of one class, or of one module, can belong together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Owner {
    Class(crate::project::ClassId),
    Module(ModuleId),
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let fields: Vec<Field> = analysis.places().filter_map(|place| field(analysis, place)).collect();
    let mut by_owner: FxHashMap<Owner, Vec<usize>> = FxHashMap::default();
    for (idx, field) in fields.iter().enumerate() {
        by_owner.entry(field.owner).or_default().push(idx);
    }
    let mut owners: Vec<_> = by_owner.into_iter().collect();
    owners.sort_unstable();
    for (_, members) in owners {
        let mut told: Vec<PlaceId> = Vec::new();
        for (nth, one) in members.iter().enumerate() {
            for two in &members[nth + 1..] {
                let (one, two) = (&fields[*one], &fields[*two]);
                if one.blocks != two.blocks || told.contains(&one.place) || told.contains(&two.place) {
                    continue;
                }
                if let Some(finding) = torn(analysis, one, two) {
                    told.extend([one.place, two.place]);
                    found.push(finding);
                }
            }
        }
    }
}

/// A field of immutable values, every write of which is under the same lock.
fn field(analysis: &Analysis<'_>, place: PlaceId) -> Option<Field> {
    let owner = match analysis.summaries.slot(place) {
        Slot::Attr(class, _) => Owner::Class(class),
        Slot::Global(module, _) => Owner::Module(module),
        Slot::Local(..) => return None,
    };
    let mut blocks: Vec<Block> = Vec::new();
    let mut varies = false;
    for access in analysis.accesses(place).filter(|access| !access.owned && is_write(access)) {
        let value = match access.touch {
            Touch::Store(value) => Some(value),
            Touch::Update(_) => None,
            _ => return None,
        };
        varies |= value.is_none_or(|value| {
            let body = analysis.body(access.func);
            !matches!(body.op(body.origin(value)), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_))
        });
        // What is filled once stays as it is.
        if analysis.conditions(access.func, access.act).iter().any(|test| test.test == Test::Absent) {
            return None;
        }
        let block = block_of(analysis, access)?;
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    blocks.sort_unstable_by_key(|(func, at, lock)| (*func, *at, *lock));
    (varies && !blocks.is_empty()).then_some(Field { place, owner, blocks })
}

fn block_of(analysis: &Analysis<'_>, access: &Access) -> Option<Block> {
    if let Some(region) = analysis.summaries.region_at(access.func, access.act) {
        return Some((access.func, Some(region.at), region.lock));
    }
    let lock = analysis.summaries.function(access.func).entry.iter().next()?;
    Some((access.func, None, lock))
}

fn torn(analysis: &Analysis<'_>, one: &Field, two: &Field) -> Option<Finding> {
    let lock = two.blocks.first()?.2;
    if one.blocks.iter().chain(&two.blocks).any(|(.., other)| other.place != lock.place) {
        return None;
    }
    let reads = |place: PlaceId| {
        analysis.accesses(place).filter(move |access| {
            let unlocked = !analysis.summaries.locks_at(access.func, access.act).holds(lock.place);
            let plain = !access.owned && !access.aliased && access.touch == Touch::Load;
            plain && unlocked && !analysis.is_test(access.func) && is_reached(analysis, access.func, lock)
        })
    };
    reads(one.place).find_map(|first| {
        let second = reads(two.place).find(|second| second.func == first.func && goes_with(analysis, first, second))?;
        let (early, late) = if first.val < second.val { (first, second) } else { (second, first) };
        if comes_from_the_lock(analysis, early, lock) {
            return None;
        }
        let rival = writer(analysis, early, late)?;
        analysis.is_believable(late.place, &rival).then(|| finding(analysis, early, late, lock, &rival))
    })
}

/// Does the reader first call something that takes the lock? Then the fields are as that has left them.
fn comes_from_the_lock(analysis: &Analysis<'_>, early: &Access, lock: Lock) -> bool {
    let calls = (0..early.val.0).map(Val).flat_map(|at| analysis.self_callees(early.func, at));
    let mut reached = calls.flat_map(|callee| analysis.self_reach(callee));
    reached.any(|func| analysis.summaries.function(func).held.iter().any(|held| held.lock.place == lock.place))
}

/// Does the class that owns the lock run this method, not an override of it?
fn is_reached(analysis: &Analysis<'_>, func: FuncId, lock: Lock) -> bool {
    let (Slot::Attr(owner, _), Some(class)) = (analysis.summaries.slot(lock.place), analysis.project.class_of(func))
    else {
        return true;
    };
    let inherits = owner != class && analysis.project.class_info(owner).mro.contains(&class);
    !inherits || analysis.project.method(owner, analysis.project.function(func).name) == Some(func)
}

/// Are the two values used together: is neither read only to be tested, and do both reads run?
fn goes_with(analysis: &Analysis<'_>, one: &Access, two: &Access) -> bool {
    let body = analysis.body(one.func);
    let used = |access: &Access| {
        let Some(user) = analysis.consumer(access.func, access.val) else { return false };
        let tests = matches!(body.op(user), Op::Compare { .. } | Op::Not(_) | Op::Both(..) | Op::Either(..))
            || body
                .blocks
                .iter()
                .any(|block| matches!(block.kind, BlockKind::Then(test) | BlockKind::Else(test) if test == access.val));
        !tests && !matches!(body.op(user), Op::Discard(_))
    };
    let (early, late) = if one.val < two.val { (one, two) } else { (two, one) };
    used(one) && used(two) && body.dominates(early.val, late.val)
}

/// Who can write both between the two reads; on one event loop, who can be read between the two writes.
fn writer<'a>(analysis: &Analysis<'a>, early: &Access, late: &Access) -> Option<Rival<'a>> {
    let stretch = Stretch { func: late.func, from: early.val, to: late.act };
    let ours = analysis.rival(late.place, stretch, Action::Read, is_write);
    ours.or_else(|| {
        let writes = analysis.accesses(late.place).filter(|access| !access.owned && is_write(access));
        writes.filter(|write| write.func != late.func).find_map(|write| {
            let others = analysis.accesses_in(write.func).iter();
            let other = others.filter(|access| is_write(access)).find(|access| access.place == early.place)?;
            let (from, to) = (write.act.min(other.act), write.act.max(other.act));
            let both = Stretch { func: write.func, from, to };
            let locks = analysis.locks_over(both);
            let is_late = |access: &Access| access.func == late.func && access.val == late.val;
            let met = analysis.rival_with(late.place, both, Action::Update, &locks, false, is_late)?;
            let (our_group, their_group) = (met.their_group, met.our_group);
            Some(Rival { access: write, our_group, their_group, confidence: met.confidence })
        })
    })
}

fn finding(analysis: &Analysis<'_>, early: &Access, late: &Access, lock: Lock, rival: &Rival<'_>) -> Finding {
    let (first, second) = (analysis.place_name(early), analysis.place_name(late));
    let stretch = Stretch { func: late.func, from: early.val, to: late.act };
    let fix = fix::hold_known(analysis, late, stretch, lock, "both reads");
    let lock = analysis.name_of(lock.place, late.func);
    let order = vec![
        format!("one thread reads `{first}`"),
        format!("another thread takes `{lock}` and writes `{first}` and `{second}`"),
        format!("the first reads `{second}`: it has an old `{first}` and a new `{second}`"),
    ];
    let action = format!("reads `{first}`, then `{second}`");
    let evidence = analysis.evidence(stretch, action, rival, None, order);
    let message = format!("`{first}` and `{second}` are written together under `{lock}`, and read apart without it");
    Finding::new(&RULE.info, analysis.span(late.func, late.act), message)
        .on(second)
        .within(analysis.symbol(late.func))
        .also(analysis.span(early.func, early.act), "the first of the two reads")
        .also(analysis.span(rival.access.func, rival.access.act), "written together with the other here")
        .confidence(rival.confidence)
        .because(evidence)
        .with_fix(fix)
}
