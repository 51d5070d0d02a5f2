//! See `unbounded_threads.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::analysis::failures::methods;
use crate::analysis::spawned::{Made, Reads, Spawned};
use crate::analysis::turns::{counts, is_unbounded, receives};
use crate::body::{BlockId, BlockKind, Body, Op, Val};
use crate::contexts::EntryKind;
use crate::fix;
use crate::project::FuncId;
use crate::types::{Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "unbounded-threads",
        code: "RP401",
        severity: Severity::Warning,
        summary: "a thread is made for every item, request or event",
        docs: include_str!("unbounded_threads.md"),
        on_by_default: true,
    },
    check,
};

/// What there is one thread for.
struct Each {
    what: &'static str,
    /// The loop, call or handler.
    at: facts::Span,
    confidence: Confidence,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    for made in analysis.spawned() {
        if made.made == Made::Executor || analysis.is_test(made.func) || made.targets.contains(&made.func) {
            continue;
        }
        let Some(each) = each(analysis, made) else { continue };
        if is_limited(analysis, analysis.reads(), made) {
            continue;
        }
        let what = if made.made == Made::Timer { "timer thread" } else { "thread" };
        let message = format!("a {what} is made for every {}, without a limit", each.what);
        found.push(
            Finding::new(&RULE.info, analysis.span(made.func, made.call), message)
                .within(analysis.symbol(made.func))
                .also(each.at, "this decides how many there are")
                .confidence(each.confidence)
                .with_fix(fix::pooled(analysis, made)),
        );
    }
}

fn each(analysis: &Analysis<'_>, made: &Spawned) -> Option<Each> {
    per_item(analysis, made).or_else(|| per_call(analysis, made)).or_else(|| per_argument(analysis, made))
}

/// A loop in the same function whose length nobody chose.
fn per_item(analysis: &Analysis<'_>, made: &Spawned) -> Option<Each> {
    let (_, test) = analysis.loops_around(made.func, made.call).find(|(id, _)| {
        let block = analysis.body(made.func).block(*id);
        is_unbounded(analysis, made.func, block)
    })?;
    Some(Each { what: "turn of a loop", at: analysis.span(made.func, test), confidence: Confidence::Medium })
}

/// A handler of requests, or a function that a receiving loop calls for each message.
fn per_call(analysis: &Analysis<'_>, made: &Spawned) -> Option<Each> {
    // Tested state, such as `if self._thread is None`, makes it one thread for each object.
    if !analysis.conditions(made.func, made.call).is_empty() {
        return None;
    }
    let handler = analysis.contexts.groups.iter().flat_map(|group| &group.entries).any(|entry| {
        entry.func == made.func && entry.site.is_none() && matches!(entry.kind, EntryKind::Handler | EntryKind::Task)
    });
    if handler && handles_requests(analysis, made.func) {
        let at = analysis.project.head(made.func);
        return Some(Each { what: "request", at, confidence: Confidence::Medium });
    }
    let sites = &analysis.contexts.callers[made.func.0 as usize];
    sites.iter().filter(|site| !site.as_value && !site.guessed).find_map(|site| {
        let receives = analysis.loops_around(site.caller, site.at).any(|(id, _)| {
            let block = analysis.body(site.caller).block(id);
            receives(analysis, site.caller, block) && is_unbounded(analysis, site.caller, block)
        });
        let at = analysis.span(site.caller, site.at);
        receives.then_some(Each { what: "message", at, confidence: Confidence::Medium })
    })
}

/// A function that many threads or tasks enter, and that makes a thread for what it is given.
fn per_argument(analysis: &Analysis<'_>, made: &Spawned) -> Option<Each> {
    if !analysis.conditions(made.func, made.call).is_empty() {
        return None;
    }
    let many = |kind| matches!(kind, EntryKind::Pool | EntryKind::Handler | EntryKind::Task);
    let entered = analysis.contexts.groups_of(made.func).any(|idx| {
        let group = &analysis.contexts.groups[idx];
        group.multiple && many(group.kind) && group.entries.iter().all(|entry| !analysis.is_test(entry.func))
    });
    let body = analysis.body(made.func);
    let Op::Call { args, .. } = body.op(made.call) else { return None };
    let given = body.args(args).iter().find(|arg| arg.name.is_some_and(|name| name == "args"))?;
    let for_argument = analysis.depends_on_parameter(made.func, given.value);
    let at = analysis.project.head(made.func);
    (entered && for_argument).then_some(Each { what: "call", at, confidence: Confidence::Medium })
}

/// Is the handler entered once for each request? Not those for the start of the server, nor mix-ins made for threads.
fn handles_requests(analysis: &Analysis<'_>, func: FuncId) -> bool {
    let function = analysis.project.function(func);
    let body = analysis.body(analysis.project.sibling(func, function.parent));
    function.decorators.iter().any(|decorator| {
        let Op::Call { func: target, .. } = body.op(*decorator) else { return false };
        let Op::Attr { name, .. } = body.op(target) else { return false };
        matches!(
            name.as_str(),
            "get" | "post" | "put" | "delete" | "patch" | "route" | "api_route" | "websocket" | "task"
        )
    }) || function.class.is_some() && matches!(function.name.as_str(), "get" | "post" | "put" | "do_GET" | "do_POST")
}

/// Is each thread waited for before the next, or admitted by a semaphore, or counted?
fn is_limited(analysis: &Analysis<'_>, reads: &Reads, made: &Spawned) -> bool {
    let body = analysis.body(made.func);
    let around: Option<BlockId> = analysis.loops_around(made.func, made.call).map(|(id, _)| id).next();
    let inside = |val: Val| around.is_none_or(|id| body.holds(id, val));
    let admitted = methods(body, &["acquire", "wait"]).any(|(call, base, _)| {
        let std = analysis.types.std(analysis.project, made.func, base);
        inside(call) && matches!(std, Some(Std::Semaphore | Std::Barrier | Std::AsyncSemaphore))
    });
    let is_semaphore = |val: Val| analysis.types.std(analysis.project, made.func, val) == Some(Std::Semaphore);
    let entered = body.vals().any(|val| matches!(body.op(val), Op::Enter { context, .. } if is_semaphore(context)));
    let compared = body.enclosing(made.call).any(|(_, block)| match block.kind {
        BlockKind::Then(test) | BlockKind::Else(test) => counts(body, test) || guards_state(analysis, made.func, test),
        _ => false,
    });
    // `if len(threads) >= n: wait` in the same loop.
    let measured = body.vals().any(|val| {
        inside(val)
            && matches!(body.op(val), Op::Compare { how: crate::body::Compare::Order, left, right }
                if measures(body, left) || measures(body, right))
    });
    admitted || entered || compared || measured || {
        let trail = analysis.trail(reads, made.func, made.call);
        trail
            .methods
            .iter()
            .any(|(name, func, at)| matches!(name.as_str(), "join" | "run") && *func == made.func && inside(*at))
    }
}

fn measures(body: &Body, val: Val) -> bool {
    match body.op(val) {
        Op::Call { func, .. } => {
            matches!(body.op(func), Op::Global(name) | Op::Attr { name, .. } if name == "len" || name == "active_count")
        }
        _ => false,
    }
}

/// Is shared state tested that tells whether a thread is there already?
fn guards_state(analysis: &Analysis<'_>, func: FuncId, test: Val) -> bool {
    let body = analysis.body(func);
    let mut work = vec![test];
    while let Some(at) = work.pop() {
        let thread = |of: &Type| matches!(of, Type::Std(Std::Thread | Std::Timer));
        let alive = matches!(body.op(at), Op::Attr { name, .. } if name == "is_alive");
        if alive || analysis.types.of(func, at).iter().any(thread) {
            return true;
        }
        body.operands(at, |operand| work.push(operand));
    }
    false
}
