//! See `save_and_restore.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, PlaceId, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Rival, Stacked, State, Stretch, Swap, is_write};
use crate::body::{Op, Val};
use crate::contexts::Reason;
use crate::fix;
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "save-and-restore",
        code: "RP210",
        severity: Severity::Error,
        summary: "shared state is saved, changed for a while and put back",
        docs: include_str!("save_and_restore.md"),
        on_by_default: true,
    },
    check,
};

const RESTORED: &str = "put back here, over what another thread may have set meanwhile";

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for func in analysis.functions().filter(|func| !analysis.is_test(*func) && !analysis.is_import_code(*func)) {
        let swaps = analysis.swaps(func);
        found.extend(analysis.stacked(func, func).and_then(|stacked| pushed(analysis, stacked)));
        let mut all = swaps.iter().filter_map(|swap| swapped(analysis, func, swap));
        if let Some(first) = all.next() {
            found.push(all.fold(first, |first, other| {
                first.also(other.span, format!("`{}` is changed and put back as well", other.place))
            }));
        }
    }
    for class in analysis.project.class_ids() {
        for (enter, exit) in [("__enter__", "__exit__"), ("__aenter__", "__aexit__")] {
            let methods = &analysis.project.class_info(class).methods;
            let pair = methods.get(&Name::new(enter)).zip(methods.get(&Name::new(exit)));
            if let Some((enter, exit)) = pair.filter(|(enter, _)| !analysis.is_test(**enter)) {
                found.extend(entered(analysis, *enter, *exit));
                found.extend(kept_on_self(analysis, class, *enter, *exit));
                found.extend(analysis.stacked(*enter, *exit).and_then(|stacked| pushed(analysis, stacked)));
            }
        }
        found.extend(analysis.calls_kept_on_self(class).and_then(|kept| kept.finding(analysis, &RULE.info)));
    }
}

fn swapped(analysis: &Analysis<'_>, func: FuncId, swap: &Swap) -> Option<Finding> {
    let stretch = Stretch { func, from: swap.save, to: swap.restore.act };
    let mut finding = match swap.set.state {
        State::Place(_) => on_place(analysis, stretch, swap.set.state, swap.set.act)?,
        State::Process(name) => {
            // A program that starts no threads itself may do as it likes with its process.
            let (ours, theirs, confidence) = analysis.overlap_of(func, func)?;
            if confidence < Confidence::High || !analysis.is_at_work(ours) || !analysis.is_at_work(theirs) {
                return None;
            }
            let name = match name {
                "os.getcwd" => "the working directory",
                other => other,
            };
            named(analysis, func, swap.set.act, name.to_owned(), confidence)
        }
    };
    finding = finding
        .also(analysis.span(func, swap.save), "saved here")
        .also(analysis.span(func, swap.restore.act), RESTORED);
    if let Some((setter, act)) = swap.set.inner {
        finding = finding.also(analysis.span(setter, act), "this is what is changed for all threads");
    }
    if let State::Place(place) = swap.set.state {
        finding = finding.with_fix(fix::own_for_each(analysis, analysis.summaries.slot(place), &[func]));
    }
    Some(finding)
}

fn named(analysis: &Analysis<'_>, func: FuncId, at: Val, name: String, confidence: Confidence) -> Finding {
    let message = match name.contains(' ') {
        true => format!("{name} is changed for a while and put back, for all threads"),
        false => format!("`{name}` is changed for a while and put back, for all threads"),
    };
    Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(name)
        .within(analysis.symbol(func))
        .confidence(confidence)
}

/// The finding for a place that others write while it is changed.
fn on_place(analysis: &Analysis<'_>, stretch: Stretch, state: State, set: Val) -> Option<Finding> {
    let State::Place(place) = state else { return None };
    let rival = analysis.rival(place, stretch, Action::Update, is_write)?;
    if analysis.sharing(place).is_some_and(|sharing| !serves_all(analysis, place, sharing.reason, &rival)) {
        return None;
    }
    let name = analysis.name_of(place, stretch.func);
    let order = vec![
        format!("one thread saves `{name}` and sets its own value"),
        format!("another thread {}", analysis.doing(rival.access)),
        format!("the first puts back what it has saved: the other works on with the wrong `{name}`"),
    ];
    let action = format!("saves, sets and restores `{name}`");
    let evidence = analysis.evidence(stretch, action, &rival, None, order);
    Some(named(analysis, stretch.func, set, name, rival.confidence).because(evidence))
}

/// Most objects with a lock serve one user at a time all the same: two threads must be seen on an object that is known
/// to be one for all.
fn serves_all(analysis: &Analysis<'_>, place: PlaceId, reason: Reason, rival: &Rival<'_>) -> bool {
    let on_class = analysis.is_class_attribute(analysis.summaries.slot(place));
    let one = !matches!(reason, Reason::Held(_) | Reason::HandsOut | Reason::OwnsThread | Reason::OwnsLoopLock);
    let at_work = [rival.our_group, rival.their_group].iter().all(|group| analysis.is_at_work(*group));
    on_class || one && at_work && rival.confidence == Confidence::High
}

/// `__enter__` keeps the old value on the object and sets a new one; `__exit__` puts it back.
fn entered(analysis: &Analysis<'_>, enter: FuncId, exit: FuncId) -> Option<Finding> {
    let body = analysis.body(exit);
    analysis.changes(exit).into_iter().find_map(|restore| {
        let value = if restore.is_call {
            let Op::Call { args, .. } = body.op(restore.act) else { return None };
            body.args(args).first()?.value
        } else {
            restore.first_value
        };
        let kept = analysis.self_attr(exit, body.origin(value))?;
        let saves = analysis.body(enter);
        let save = saves.vals().find_map(|val| match saves.op(val) {
            Op::StoreAttr { value, .. } if analysis.self_attr(enter, val) == Some(kept) => {
                analysis.saved_by(enter, value, restore.state)
            }
            _ => None,
        })?;
        let set = analysis.changes(enter).into_iter().find(|set| set.state == restore.state)?;
        let (from, to) = (save.min(set.act), set.act.max(save));
        let mut finding = on_place(analysis, Stretch { func: enter, from, to }, set.state, set.act)?;
        if let State::Place(place) = set.state {
            finding = finding.with_fix(fix::own_for_each(analysis, analysis.summaries.slot(place), &[enter, exit]));
        }
        Some(finding.also(analysis.span(enter, save), "saved here").also(analysis.span(exit, restore.act), RESTORED))
    })
}

/// One stack for all threads: what one has entered is in force for the others, and each takes off what is on top.
fn pushed(analysis: &Analysis<'_>, stacked: Stacked<'_>) -> Option<Finding> {
    let Stacked { push, pop } = stacked;
    let stretch = Stretch { func: push.func, from: push.val, to: push.act };
    let rival =
        analysis.rival(push.place, stretch, Action::Update, |other| other.func == push.func && is_write(other))?;
    let name = analysis.place_name(push);
    let order = vec![
        format!("one thread enters and puts its entry on `{name}`"),
        format!("another thread enters and puts its own on `{name}`"),
        "the first goes by the entry of the other, and takes it off when it leaves".to_owned(),
    ];
    let evidence = analysis.evidence(stretch, format!("appends to `{name}`"), &rival, None, order);
    let message = format!("`{name}` holds what is in force inside a `with`, for all threads at once");
    let finding = Finding::new(&RULE.info, analysis.span(push.func, push.act), message)
        .on(name)
        .within(analysis.symbol(push.func))
        .also(analysis.span(pop.func, pop.act), "whatever is on top is taken off here");
    Some(finding.confidence(rival.confidence).because(evidence))
}

/// One object for all, which keeps the state of one `with` on itself.
fn kept_on_self(analysis: &Analysis<'_>, class: ClassId, enter: FuncId, exit: FuncId) -> Option<Finding> {
    let reason = analysis.contexts.sharing(class)?.reason;
    if !matches!(reason, Reason::Global | Reason::ClassAttribute | Reason::Descriptor | Reason::Configured) {
        return None;
    }
    let body = analysis.body(enter);
    body.vals().find_map(|val| {
        let Op::StoreAttr { value, update: false, .. } = body.op(val) else { return None };
        let name = analysis.self_attr(enter, val)?;
        let origin = body.origin(value);
        if matches!(body.op(origin), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_) | Op::Attr { .. }) {
            return None;
        }
        let uses = analysis.body(exit);
        let used = uses
            .vals()
            .find(|at| matches!(uses.op(*at), Op::Attr { .. }) && analysis.self_attr(exit, *at) == Some(name))?;
        let slot = Slot::Attr(analysis.types.owner(analysis.project, class, name), name);
        let place = *analysis.summaries.places.get(&slot)?;
        let stretch = Stretch { func: enter, from: val, to: val };
        let rival = analysis.rival(place, stretch, Action::Write, |other| other.func == enter && is_write(other))?;
        let shown = format!("self.{name}");
        let order = vec![
            format!("one thread enters and sets `{shown}`"),
            format!("another thread enters and sets `{shown}` too"),
            "the first leaves with the state of the other".to_owned(),
        ];
        let evidence = analysis.evidence(stretch, format!("assigns `{shown}`"), &rival, None, order);
        let message = format!("`{shown}` keeps the state of one `with` on an object that all threads share");
        let finding = Finding::new(&RULE.info, analysis.span(enter, val), message)
            .on(shown)
            .within(analysis.symbol(enter))
            .also(analysis.span(exit, used), "read here at the end of the block");
        Some(finding.confidence(rival.confidence).because(evidence))
    })
}
