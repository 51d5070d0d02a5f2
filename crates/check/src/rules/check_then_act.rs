//! See `check_then_act.md` beside this file: it is the documentation and the test.

use facts::{Action, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Condition, Rival, Stretch, Test, removes};
use crate::body::{Op, Val};
use crate::fix;
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::{Container, Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "check-then-act",
        code: "RP202",
        severity: Severity::Error,
        summary: "a test of shared state decides what is done, but another {who} can change it in between",
        docs: include_str!("check_then_act.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for place in analysis.places() {
        let mut seen: Vec<FuncId> = Vec::new();
        for act in analysis.accesses(place).filter(|access| !access.owned) {
            if seen.contains(&act.func) {
                continue;
            }
            if let Some(finding) = finding(analysis, place, act).or_else(|| too_late(analysis, place, act)) {
                seen.push(act.func);
                found.push(finding);
            }
        }
    }
}

fn finding(analysis: &Analysis<'_>, place: PlaceId, act: &Access) -> Option<Finding> {
    let slot = analysis.summaries.slot(place);
    let mut conditions = analysis.conditions(act.func, act.act);
    conditions.extend(analysis.ensured(act.func, act.act));
    conditions.extend(analysis.walked(act.func, act.act));
    let mut decided = Vec::new();
    for condition in conditions.iter().filter(|condition| condition.slot == slot && condition.read != act.val) {
        // The same test again, nearer to the act, decides: that is double-checked locking.
        let kind = std::mem::discriminant(&condition.test);
        if decided.contains(&kind) {
            continue;
        }
        decided.push(kind);
        let stretch = Stretch { func: act.func, from: condition.read.min(condition.at), to: act.act };
        if let Some((rival, harm)) = hazard(analysis, act, condition, stretch) {
            return Some(report(analysis, act, condition, stretch, &rival, harm));
        }
    }
    None
}

/// `if self.done: ... else: self.callbacks.append(...)`, while another function sets the flag and then goes through
/// the callbacks for the last time.
fn too_late(analysis: &Analysis<'_>, place: PlaceId, act: &Access) -> Option<Finding> {
    if !adds(analysis, act) || analysis.container(place).is_none() {
        return None;
    }
    analysis.flag_tests(act).into_iter().find_map(|test| {
        let stretch = Stretch { func: act.func, from: test.read.min(test.at), to: act.act };
        let last = |other: &Access| {
            let goes_through = match other.touch {
                Touch::Iterate | Touch::Snapshot | Touch::Store(_) => true,
                Touch::Method(name) => name == "clear",
                _ => false,
            };
            goes_through && analysis.turns_over(&test, other)
        };
        let rival = analysis.rival(place, stretch, Action::Update, last)?;
        let (flag, who) = (analysis.text(act.func, test.read), analysis.who(&rival));
        let order = vec![
            format!("one {who} tests `{flag}`"),
            format!("another {who} changes `{flag}` and {}", analysis.doing(rival.access)),
            format!("the first {}: nobody looks at what comes so late", analysis.doing(act)),
        ];
        let message = format!("`{flag}` is tested and then acted upon, but another {who} can change it in between");
        let finding = analysis.race(&RULE.info, act, stretch, &rival, message, order);
        Some(finding.also(analysis.span(act.func, test.at), "tested here"))
    })
}

/// Who can make the test wrong before the act, and what happens then.
fn hazard<'a>(
    analysis: &Analysis<'a>,
    act: &Access,
    condition: &Condition,
    stretch: Stretch,
) -> Option<(Rival<'a>, &'static str)> {
    let rival = |action, wanted: &dyn Fn(&Access) -> bool| analysis.rival(act.place, stretch, action, wanted);
    match condition.test {
        Test::HasKey(key) if needs_key(analysis, act, Some(key)) => {
            let rival = rival(Action::Read, &|other| takes_keys(analysis, other, act))?;
            Some((rival, "the key is gone: KeyError, or a change of something that nobody sees any more"))
        }
        Test::Present | Test::Compared if needs_item(analysis, act, condition) => {
            let rival = rival(Action::Read, &|other| takes_keys(analysis, other, act))?;
            Some((rival, "nothing is left: IndexError, KeyError, or the wrong element"))
        }
        Test::Present | Test::Compared | Test::Absent if takes_from_queue(analysis, act).is_some() => {
            let rival = rival(Action::Update, &|other| takes_from_queue(analysis, other).is_some())?;
            Some((rival, takes_from_queue(analysis, act)?))
        }
        Test::Compared if adds(analysis, act) && is_limit(analysis, act, condition) => {
            let rival = rival(Action::Update, &|other| adds(analysis, other))?;
            Some((rival, "both go on: the limit is exceeded"))
        }
        Test::Absent if analysis.starts_something(act, condition) => {
            let rival = rival(Action::Update, &|other| analysis.sets_flag(other))?;
            Some((rival, "both find the flag unset, or one finds it set and goes on before the work is done"))
        }
        Test::LacksKey(_) if registers(analysis, act) => {
            let rival = rival(Action::Update, &|other| registers(analysis, other) || takes_keys(analysis, other, act))?;
            Some((rival, "both go on: one entry replaces the other, or there are two"))
        }
        _ => None,
    }
}

/// What is raised where a key or item is gone: who catches it has thought of that.
const MISSING: [&str; 4] = ["KeyError", "LookupError", "IndexError", "ValueError"];

/// Does the act fail, or change the wrong thing, without the key? (`pop` with a default and `discard` do not.)
fn needs_key(analysis: &Analysis<'_>, act: &Access, key: Option<Val>) -> bool {
    if analysis.expects(act.func, act.act, &MISSING) {
        return false;
    }
    let body = analysis.body(act.func);
    let used = match (act.touch, body.op(act.act)) {
        (Touch::ItemLoad, Op::Item { key, .. })
        | (Touch::ItemDelete, Op::DelItem { key, .. })
        | (Touch::ItemUpdate, Op::StoreItem { key, .. }) => key,
        (Touch::Method(name), Op::Call { args, .. }) => match (name.as_str(), body.args(args)) {
            ("pop" | "remove" | "__getitem__" | "index", [key]) => key.value,
            _ => return false,
        },
        _ => return false,
    };
    let text = |val: Val| analysis.files.text(analysis.span(act.func, val));
    key.is_none_or(|key| text(key) == text(used))
}

/// Does the act fail on an empty container?
fn needs_item(analysis: &Analysis<'_>, act: &Access, condition: &Condition) -> bool {
    let expected = analysis.expects(act.func, act.act, &MISSING);
    if condition.through_local || expected || analysis.container(act.place).is_none() {
        return false;
    }
    let body = analysis.body(act.func);
    match (act.touch, body.op(act.act)) {
        (Touch::ItemLoad, Op::Item { key, .. }) => {
            let list = matches!(analysis.container(act.place), Some(Container::List | Container::Deque));
            list && matches!(body.op(key), Op::Scalar | Op::Other(_))
        }
        (Touch::Method(name), Op::Call { args, .. }) => {
            let bare = body.args(args).is_empty();
            matches!(name.as_str(), "popleft" | "popitem" | "heappop")
                || name == "pop" && (bare || matches!(analysis.container(act.place), Some(Container::List)))
        }
        _ => false,
    }
}

/// Takes keys out, one by one or all at once by a new container.
fn takes_keys(analysis: &Analysis<'_>, access: &Access, act: &Access) -> bool {
    let replaced = matches!(access.touch, Touch::Store(_) | Touch::Delete) && analysis.container(act.place).is_some();
    removes(access) || replaced
}

/// Takes from a queue in a way that waits, or that raises, where it is empty.
fn takes_from_queue(analysis: &Analysis<'_>, access: &Access) -> Option<&'static str> {
    let is_queue = |of: &Type| analysis.types.std_of(analysis.project, *of) == Some(Std::Queue);
    let Touch::Method(name) = access.touch else { return None };
    let bare = match analysis.body(access.func).op(access.act) {
        Op::Call { args, .. } => args.len == 0,
        _ => false,
    };
    if !bare || !analysis.types_of(access.place).iter().any(is_queue) {
        return None;
    }
    match name.as_str() {
        "get" => Some("somebody else took the last one: the call waits"),
        "get_nowait" if !analysis.expects(access.func, access.act, &["Empty"]) => {
            Some("somebody else took the last one: the call raises Empty")
        }
        _ => None,
    }
}

/// Makes the container larger.
fn adds(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::Method(name) => {
            matches!(name.as_str(), "append" | "appendleft" | "add" | "insert")
                && analysis.container(access.place).is_some()
        }
        Touch::ItemStore => true,
        Touch::Update(_) => analysis.container(access.place).is_none(),
        _ => false,
    }
}

/// Is the test one of a size or count against a limit?
fn is_limit(analysis: &Analysis<'_>, act: &Access, condition: &Condition) -> bool {
    let body = analysis.body(act.func);
    let ordered = matches!(body.op(condition.at), Op::Compare { how: crate::body::Compare::Order, .. });
    let counts = analysis.container(act.place).is_some() || matches!(act.touch, Touch::Update(_));
    ordered && counts
}

/// Enters something under a key that was missing, where two entries are not the same as one.
fn registers(analysis: &Analysis<'_>, access: &Access) -> bool {
    match access.touch {
        Touch::ItemStore => analysis.creation(access).is_some_and(|creation| creation.certain),
        Touch::Method(name) => name == "append" && analysis.container(access.place) == Some(Container::List),
        _ => false,
    }
}

fn report(
    analysis: &Analysis<'_>,
    act: &Access,
    condition: &Condition,
    stretch: Stretch,
    rival: &Rival<'_>,
    harm: &str,
) -> Finding {
    let name = analysis.place_name(act);
    let who = analysis.who(rival);
    let order = vec![
        format!("one {who} tests `{name}`"),
        format!("another {who} {}", analysis.doing(rival.access)),
        format!("the first {}; {harm}", analysis.doing(act)),
    ];
    let message = format!("`{name}` is tested and then acted upon, but another {who} can change it in between");
    let finding = analysis.race(&RULE.info, act, stretch, rival, message, order);
    let finding = finding.also(analysis.span(act.func, condition.at), "tested here");
    finding.with_fix(fix::one_step(analysis, act, condition, stretch))
}
