//! See `split_critical_section.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Rival, Stretch, Test, is_write, removes};
use crate::body::{BlockKind, Op, Val};
use crate::fix;
use crate::summary::{Access, Held, Touch, read_within};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "split-critical-section",
        code: "RP208",
        severity: Severity::Error,
        summary: "state is checked in one locked block and changed in the next",
        docs: include_str!("split_critical_section.md"),
        on_by_default: true,
    },
    check,
};

/// What connects the two blocks.
struct Link {
    /// The read in the first block.
    read: Val,
    /// The second block relies on a key or value being absent.
    is_absence: bool,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions().filter(|func| !analysis.is_test(*func)) {
        let held = &analysis.summaries.function(func).held;
        if held.len() < 2 {
            continue;
        }
        let mut places = Vec::new();
        for act in analysis.accesses_in(func).iter().filter(|access| !access.owned && is_write(access)) {
            if places.contains(&act.place) {
                continue;
            }
            if let Some(finding) = second_half(analysis, act, held) {
                places.push(act.place);
                found.push(finding);
            }
        }
    }
}

fn second_half(analysis: &Analysis<'_>, act: &Access, held: &[Held]) -> Option<Finding> {
    if is_safe_anyway(analysis, act) {
        return None;
    }
    let second = held.iter().filter(|held| contains(held, act.act)).max_by_key(|held| held.first)?;
    let entry = &analysis.summaries.function(act.func).entry;
    if entry.holds(second.lock.place) || is_tested_again(analysis, act, second) {
        return None;
    }
    let same_place = |other: &&Access| other.place == act.place && is_write(other);
    let mut writes: Vec<u32> =
        analysis.accesses_in(act.func).iter().filter(same_place).map(|other| other.act.0).collect();
    writes.sort_unstable();
    // A first block that takes or claims something leaves nothing to rely on: it is its own.
    let claims = |first: &Held| {
        let next = writes.partition_point(|at| *at < first.first);
        writes.get(next).is_some_and(|at| *at < first.end)
    };
    let before =
        held.iter().filter(|first| first.lock.place == second.lock.place && first.end <= second.at.0 && !claims(first));
    before.rev().find_map(|first| {
        let link = link(analysis, act, first)?;
        if link.is_absence && stores_plain(analysis, act) && !is_reset(analysis, act) {
            return None;
        }
        let stretch = Stretch { func: act.func, from: link.read, to: act.act };
        if analysis.locks_over(stretch).holds(second.lock.place) {
            return None;
        }
        let rival = analysis.rival(act.place, stretch, Action::Update, is_write)?;
        analysis.is_believable(act.place, &rival).then(|| finding(analysis, act, &link, second, stretch, &rival))
    })
}

fn contains(held: &Held, at: Val) -> bool {
    held.first <= at.0 && at.0 < held.end
}

/// Steps that do the right thing whatever the first block has seen.
fn is_safe_anyway(analysis: &Analysis<'_>, act: &Access) -> bool {
    match act.touch {
        Touch::Method(name) if matches!(name.as_str(), "setdefault" | "discard" | "add" | "clear" | "update") => true,
        // `pop(key, None)`
        Touch::Method(name) if name == "pop" => {
            matches!(analysis.body(act.func).op(act.act), Op::Call { args, .. } if args.len > 1)
        }
        // A flag, or a reset.
        Touch::Store(value) => {
            let body = analysis.body(act.func);
            matches!(body.op(body.origin(value)), Op::None | Op::Truth(_) | Op::Str(_) | Op::Scalar)
        }
        _ => false,
    }
}

fn stores_plain(analysis: &Analysis<'_>, act: &Access) -> bool {
    match act.touch {
        Touch::Store(value) => analysis.is_plain(act.func, value),
        Touch::ItemStore => {
            analysis.item_stored(act.func, act.act).is_none_or(|value| analysis.is_plain(act.func, value))
        }
        _ => false,
    }
}

/// Does anybody take out again what was stored? Then an old value can come back.
fn is_reset(analysis: &Analysis<'_>, act: &Access) -> bool {
    analysis
        .accesses(act.place)
        .filter(|access| !access.owned && access.func != act.func)
        .any(|access| removes(access) || matches!(access.touch, Touch::Delete | Touch::Store(_)))
}

/// Is anything tested in the second block before the act?
fn is_tested_again(analysis: &Analysis<'_>, act: &Access, second: &Held) -> bool {
    let body = analysis.body(act.func);
    let governed = body.enclosing(act.act).any(|(_, block)| match block.kind {
        BlockKind::Then(test) | BlockKind::Else(test) => contains(second, test),
        BlockKind::Except(tried, _) => contains(second, Val(body.block(tried).first)),
        _ => false,
    });
    // What is read again in the second block, other than for the update itself, counts as a look.
    governed
        || analysis.accesses_in(act.func).iter().any(|access| {
            let own = matches!(act.touch, Touch::Update(read) if read == access.val) || access.act == act.act;
            access.place == act.place
                && !is_write(access)
                && !own
                && contains(second, access.val)
                && access.val < act.val
        })
}

/// How the act relies on what the first block has read of the place: by a test around it, by an early exit of the
/// first block, or by the value that is stored.
fn link(analysis: &Analysis<'_>, act: &Access, first: &Held) -> Option<Link> {
    let slot = analysis.summaries.slot(act.place);
    let body = analysis.body(act.func);
    let read_of = |val: Val| {
        let read = read_within(analysis.project, analysis.types, act.func, val, slot)?;
        contains(first, read).then_some(read)
    };
    let absent = |test: Val, holds: bool| {
        let tests = analysis.tested_by(act.func, test, holds);
        tests.iter().any(|known| known.slot == slot && matches!(known.test, Test::Absent | Test::LacksKey(_)))
    };
    for (_, block) in body.enclosing(act.act) {
        let (test, holds) = match block.kind {
            BlockKind::Then(test) => (test, true),
            BlockKind::Else(test) => (test, false),
            _ => continue,
        };
        if let Some(read) = read_of(test) {
            return Some(Link { read, is_absence: absent(test, holds) });
        }
    }
    for block in body.blocks.iter().filter(|block| block.leaves && first.first <= block.first && block.end <= first.end)
    {
        let (test, holds) = match block.kind {
            BlockKind::Then(test) => (test, false),
            BlockKind::Else(test) => (test, true),
            _ => continue,
        };
        if let Some(read) = read_of(test) {
            return Some(Link { read, is_absence: absent(test, holds) });
        }
    }
    let value = match (act.touch, body.op(act.act)) {
        (Touch::Store(value), _) => value,
        (
            Touch::Update(_),
            Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreCaptured { value, .. },
        ) => value,
        (Touch::ItemStore | Touch::ItemUpdate, Op::StoreItem { value, .. }) => value,
        _ => return None,
    };
    read_of(value).map(|read| Link { read, is_absence: false })
}

fn finding(
    analysis: &Analysis<'_>,
    act: &Access,
    link: &Link,
    second: &Held,
    stretch: Stretch,
    rival: &Rival<'_>,
) -> Finding {
    let name = analysis.place_name(act);
    let lock = analysis.name_of(second.lock.place, act.func);
    let who = analysis.who(rival);
    let order = vec![
        format!("one {who} looks at `{name}` under `{lock}`, and releases it"),
        format!("another {who} {} under `{lock}`", analysis.doing(rival.access)),
        format!("the first takes `{lock}` again and {}, by what it saw before", analysis.doing(act)),
    ];
    let evidence = analysis.evidence(stretch, analysis.doing(act), rival, None, order);
    let message = format!("`{name}` is checked under `{lock}` and changed under it later, with a gap between");
    Finding::new(&RULE.info, analysis.span(act.func, act.act), message)
        .on(name)
        .within(analysis.symbol(act.func))
        .also(analysis.span(act.func, link.read), "looked at here, in a block of its own")
        .also(analysis.span(act.func, second.at), "taken again here; others may have had it in between")
        .confidence(rival.confidence)
        .because(evidence)
        .with_fix(fix::merge_blocks(analysis, act.func, link.read, second.at))
}
