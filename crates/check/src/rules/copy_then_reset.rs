//! See `copy_then_reset.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Rival, Stretch, removes};
use crate::body::{LocalId, Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch, mutating};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "copy-then-reset",
        code: "RP209",
        severity: Severity::Error,
        summary: "collected items are taken over and the collection is emptied in a second step",
        docs: include_str!("copy_then_reset.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        let resets = analysis.accesses(place).filter(|access| !access.owned && !analysis.is_test(access.func));
        let resets = resets.filter(|access| is_reset(analysis, access));
        let mut all = resets.filter_map(|reset| taken(analysis, reset));
        if let Some(first) = all.next() {
            found.push(
                all.fold(first, |first, other| first.also(other.span, "taken and emptied in two steps here too")),
            );
        }
    }
}

/// Does the access leave nothing of what was collected?
fn is_reset(analysis: &Analysis<'_>, access: &Access) -> bool {
    let body = analysis.body(access.func);
    match (access.touch, body.op(access.act)) {
        (Touch::Store(value), _) => analysis.is_empty_value(access.func, value),
        (Touch::Method(name), _) => name == "clear",
        (Touch::ItemDelete, Op::DelItem { key, .. }) => is_whole(analysis, access.func, key),
        (Touch::ItemStore, Op::StoreItem { value, .. }) => analysis.is_empty_value(access.func, value),
        _ => false,
    }
}

fn is_whole(analysis: &Analysis<'_>, func: FuncId, key: Val) -> bool {
    matches!(analysis.body(func).op(key), Op::Other(args) if args.len == 0)
}

fn taken(analysis: &Analysis<'_>, reset: &Access) -> Option<Finding> {
    let body = analysis.body(reset.func);
    let before = analysis.accesses_in(reset.func).iter().rev();
    let mut takes = before.filter(|access| access.place == reset.place && access.val < reset.val && !access.owned);
    let take = takes.find(|take| {
        let in_order = body.dominates(take.act, reset.act) || body.dominates(take.val, reset.act);
        in_order && takes_over(analysis, take, reset) && !body.excludes(take.val, reset.val)
    })?;
    if is_put_back(analysis, take, reset) || is_replaced(analysis, take, reset) {
        return None;
    }
    let stretch = Stretch { func: reset.func, from: take.val, to: reset.act };
    let rival = analysis.rival(reset.place, stretch, Action::Update, |other| adds(analysis, other, reset))?;
    if !analysis.is_believable(reset.place, &rival) {
        return None;
    }
    if take.touch == Touch::Iterate && (rival.confidence < Confidence::High || is_farewell(analysis, reset.func)) {
        return None;
    }
    Some(finding(analysis, take, reset, stretch, &rival))
}

/// Does the access put something into the collection, or count it up?
fn adds(analysis: &Analysis<'_>, access: &Access, reset: &Access) -> bool {
    match access.touch {
        Touch::Update(_) | Touch::ItemUpdate => access.func != reset.func,
        Touch::ItemStore => access.act != reset.act,
        Touch::ItemLoad => {
            matches!(reset.touch, Touch::ItemStore) && analysis.is_changed_in_place(access.func, access.act)
        }
        Touch::Method(name) => mutating(name.as_str()) && !removes(access),
        _ => false,
    }
}

/// What ends an object may lose what comes too late.
fn is_farewell(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let name = analysis.project.function(func).name.as_str();
    let words =
        ["stop", "close", "shutdown", "terminate", "dispose", "cleanup", "teardown", "exit", "del", "clear", "reset"];
    name.split('_').any(|word| words.contains(&word))
}

/// Does the access take what was collected, to keep it?
fn takes_over(analysis: &Analysis<'_>, take: &Access, reset: &Access) -> bool {
    let body = analysis.body(take.func);
    let kept = |val: Val| {
        let mut at = val;
        // `list(x)`, `x.copy()`, `tuple(x)`
        for _ in 0..3 {
            match analysis.consumer(take.func, at).map(|user| (user, body.op(user))) {
                Some((_, Op::StoreLocal { local, value, .. })) if value == at => {
                    return is_used(analysis, take.func, local);
                }
                Some((user, Op::Call { .. } | Op::Attr { .. } | Op::Item { .. })) => at = user,
                _ => return false,
            }
        }
        false
    };
    let of_item = matches!(reset.touch, Touch::ItemStore);
    match (take.touch, body.op(reset.act)) {
        (Touch::ItemLoad, Op::StoreItem { key: reset_key, .. }) if of_item => match body.op(take.act) {
            Op::Item { key, .. } => {
                analysis.text(take.func, key) == analysis.text(take.func, reset_key) && kept(take.act)
            }
            _ => false,
        },
        (Touch::Load, Op::StoreItem { key, .. }) => is_whole(analysis, take.func, key) && kept(take.val),
        // What is loaded as it is and then cleared, is cleared for its taker too.
        (Touch::Load, _) => matches!(reset.touch, Touch::Store(_)) && kept(take.val),
        (Touch::Snapshot, _) => !of_item && kept(take.act),
        (Touch::Iterate, _) => !of_item && analysis.runs_over(take, reset),
        _ => false,
    }
}

/// Is the local read at all?
fn is_used(analysis: &Analysis<'_>, func: FuncId, local: LocalId) -> bool {
    let body = analysis.body(func);
    body.vals().any(|val| matches!(body.op(val), Op::Local(used) if used == local))
}

/// Saved for a while only, and put back afterwards?
fn is_put_back(analysis: &Analysis<'_>, take: &Access, reset: &Access) -> bool {
    let body = analysis.body(reset.func);
    analysis.accesses_in(reset.func).iter().any(|access| {
        let (Touch::Update(_) | Touch::Store(_)) = access.touch else { return false };
        let value = match body.op(access.act) {
            Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. } | Op::StoreCaptured { value, .. } => value,
            _ => return false,
        };
        access.place == reset.place && access.act > reset.act && body.origin(value) == body.origin(take.val)
    })
}

/// Is there another value at the place before it is reset?
fn is_replaced(analysis: &Analysis<'_>, take: &Access, reset: &Access) -> bool {
    analysis.accesses_in(reset.func).iter().any(|access| {
        access.place == reset.place
            && matches!(access.touch, Touch::Store(_))
            && take.val < access.val
            && access.val < reset.val
    })
}

fn finding(analysis: &Analysis<'_>, take: &Access, reset: &Access, stretch: Stretch, rival: &Rival<'_>) -> Finding {
    let name = analysis.place_name(reset);
    let repeats = rival.access.func == reset.func && rival.access.act == reset.act;
    let order = vec![
        format!("one thread takes what `{name}` holds"),
        match repeats {
            true => format!("another thread takes what `{name}` holds, too"),
            false => format!("another thread {}", analysis.doing(rival.access)),
        },
        match repeats {
            true => "both go on with the same items".to_owned(),
            false => format!("the first empties `{name}`: what the other has done to it is lost"),
        },
    ];
    let action = format!("takes and empties `{name}`");
    let evidence = analysis.evidence(stretch, action, rival, analysis.guard(reset.place), order);
    Finding::new(
        &RULE.info,
        analysis.span(reset.func, reset.act),
        format!("`{name}` is taken over and emptied in two steps"),
    )
    .on(name)
    .within(analysis.symbol(reset.func))
    .also(analysis.span(take.func, take.act), "taken here; what comes in until it is emptied is lost")
    .confidence(rival.confidence)
    .because(evidence)
    .with_fix(fix::hold_lock(analysis, reset, stretch, "taking and emptying"))
}
