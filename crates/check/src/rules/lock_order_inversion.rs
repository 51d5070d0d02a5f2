//! See `lock_order_inversion.md` beside this file: it is the documentation and the test.

use facts::{CallStep, Evidence, Finding, Path, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, Cycle, Edge, Witness};
use crate::types::Slot;

/// How many places that take the locks of one edge are shown.
const SHOWN_MAX: usize = 8;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "lock-order-inversion",
        code: "RP301",
        severity: Severity::Error,
        summary: "locks are taken in different orders by threads that can run at once",
        docs: include_str!("lock_order_inversion.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for cycle in analysis.lock_cycles() {
        found.push(finding(analysis, &cycle));
    }
}

fn finding(analysis: &Analysis<'_>, cycle: &Cycle<'_>) -> Finding {
    let edge = &cycle.edges[0];
    let first = &edge.witnesses[0];
    let odd = edge.witnesses.len();
    let (func, at) = first.effect.end;
    let (to, from) = names(analysis, edge, first);
    let message = match cycle.edges.len() {
        2 => format!("`{to}` is taken while `{from}` is held, and the other way round elsewhere"),
        n => format!("`{to}` is taken while `{from}` is held, one of {n} locks that are taken in a circle"),
    };
    let mut finding = Finding::new(&RULE.info, analysis.span(func, at), message)
        .on(to)
        .within(analysis.symbol(func))
        .confidence(cycle.confidence)
        .because(evidence(analysis, cycle));
    for (idx, edge) in cycle.edges.iter().enumerate() {
        // Where most keep one order, all that break it, and one of those that keep it.
        let shown = if idx > 0 && edge.witnesses.len() >= odd * 3 { 1 } else { SHOWN_MAX };
        for witness in edge.witnesses.iter().take(shown) {
            finding = related(analysis, edge, witness, finding);
        }
    }
    finding
}

/// The inner and the outer lock, by their classes where they would read the same.
fn names(analysis: &Analysis<'_>, edge: &Edge<'_>, witness: &Witness<'_>) -> (String, String) {
    let to = analysis.name_of(edge.to, witness.effect.end.0);
    let from = analysis.name_of(edge.from, witness.func);
    if to != from {
        return (to, from);
    }
    let full = |place| match analysis.summaries.slot(place) {
        Slot::Attr(class, name) => format!("{}.{name}", analysis.project.class(class).name),
        slot => crate::contexts::slot_name(analysis.project, slot).to_string(),
    };
    (full(edge.to), full(edge.from))
}

fn related(analysis: &Analysis<'_>, edge: &Edge<'_>, witness: &Witness<'_>, finding: Finding) -> Finding {
    let (end, at) = witness.effect.end;
    let (to, from) = names(analysis, edge, witness);
    let mut finding =
        finding.also(analysis.span(witness.func, witness.held.at), format!("`{from}` is taken here and held while"));
    let way = analysis.way(witness.func, &witness.effect);
    if let Some((callee, span)) = way.first() {
        finding = finding.also(*span, format!("this calls `{}`, which leads to", analysis.symbol(*callee)));
    }
    finding.also(analysis.span(end, at), format!("`{to}` is taken here"))
}

fn evidence(analysis: &Analysis<'_>, cycle: &Cycle<'_>) -> Evidence {
    let mut order = Vec::new();
    let mut paths = Vec::new();
    for (idx, edge) in cycle.edges.iter().enumerate() {
        let witness = &edge.witnesses[0];
        let (end, at) = witness.effect.end;
        let (to, from) = names(analysis, edge, witness);
        order.push(format!("thread {} takes `{from}`", idx + 1));
        let mut calls =
            vec![CallStep { function: name(analysis, witness.func), span: analysis.project.head(witness.func) }];
        let way = analysis.way(witness.func, &witness.effect);
        calls.extend(way.into_iter().map(|(func, span)| CallStep { function: name(analysis, func), span }));
        let thread = analysis.threads_of(witness.func).first().map(|group| {
            let path = analysis.contexts.path(*group, witness.func);
            analysis.entry_in_words(*group, path.first().map_or(witness.func, |(func, _)| *func))
        });
        paths.push(Path {
            thread: thread.unwrap_or_default(),
            calls,
            locks: vec![from],
            span: analysis.span(end, at),
            action: format!("takes `{to}`"),
        });
    }
    order.push("each waits for a lock that the next one holds, for ever".to_owned());
    Evidence::Possible { paths, overlap: "the functions can run on different threads".to_owned(), vote: None, order }
}

fn name(analysis: &Analysis<'_>, func: crate::project::FuncId) -> String {
    match analysis.symbol(func) {
        "" => "<module>".to_owned(),
        name => name.to_owned(),
    }
}
