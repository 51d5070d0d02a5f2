//! See `unbounded_threads.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::Analysis;
use crate::analysis::failures::methods;
use crate::analysis::spawned::{Made, Reads, Spawned};
use crate::body::{Block, BlockId, BlockKind, Body, Display, FunctionKind, Op, Val};
use crate::contexts::EntryKind;
use crate::project::FuncId;
use crate::types::{Slot, Std, Type};

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
    let mut reads = None;
    for made in analysis.spawned() {
        if made.made == Made::Executor || analysis.is_test(made.func) || made.targets.contains(&made.func) {
            continue;
        }
        let Some(each) = per_item(analysis, &made).or_else(|| per_call(analysis, &made)) else { continue };
        let reads = reads.get_or_insert_with(|| analysis.reads());
        if is_limited(analysis, reads, &made) {
            continue;
        }
        let what = if made.made == Made::Timer { "timer thread" } else { "thread" };
        let message = format!("a {what} is made for every {}, without a limit", each.what);
        found.push(
            Finding::new(&RULE.info, analysis.span(made.func, made.call), message)
                .within(analysis.symbol(made.func))
                .also(each.at, "this decides how many there are")
                .confidence(each.confidence),
        );
    }
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

/// Does a loop go on for as many turns as the input says?
fn is_unbounded(analysis: &Analysis<'_>, func: FuncId, block: &Block) -> bool {
    let body = analysis.body(func);
    let BlockKind::Loop(test) = block.kind else { return false };
    match body.op(test) {
        Op::Iter { over, .. } => !is_short(analysis, func, over),
        // Other loops that make threads keep a number of them; those that receive make one for each message.
        _ => receives(analysis, func, block) && !counts(body, test),
    }
}

/// Is what is iterated over short by its nature: a range, a display, a constant, a number of workers?
fn is_short(analysis: &Analysis<'_>, func: FuncId, over: Val) -> bool {
    let body = analysis.body(func);
    let mut at = body.origin(over);
    for _ in 0..6 {
        match body.op(at) {
            Op::Display(..) | Op::Scalar | Op::Str(_) => return true,
            Op::Call { func: target, args } => {
                let inner = body.args(args).first().map(|arg| arg.value);
                let name = match body.op(target) {
                    Op::Global(name) | Op::Attr { name, .. } => name.as_str(),
                    _ => return false,
                };
                match (name, body.op(target)) {
                    ("range" | "xrange" | "repeat", _) => return true,
                    ("items" | "values" | "keys" | "copy", Op::Attr { base, .. }) => at = body.origin(base),
                    ("enumerate" | "list" | "tuple" | "sorted" | "reversed" | "zip" | "set", _) => match inner {
                        Some(inner) => at = body.origin(inner),
                        None => return true,
                    },
                    _ => return false,
                }
            }
            Op::Global(_) | Op::Attr { .. } | Op::Captured(..) => {
                let slots = analysis.types.slots_of(analysis.project, func, at);
                return slots.iter().any(|slot| is_constant(analysis, *slot)) || configured(body, at);
            }
            _ => return configured(body, at),
        }
    }
    false
}

/// A global or class attribute that is a display of constants and is not assigned later.
fn is_constant(analysis: &Analysis<'_>, slot: Slot) -> bool {
    let Slot::Global(module, name) = slot else { return false };
    let stores = analysis.project.globals[module.0 as usize].get(&name).map_or(&[][..], Vec::as_slice);
    !stores.is_empty()
        && stores.iter().all(|store| {
            let function = analysis.project.function(store.func);
            function.kind == FunctionKind::Module
                && match function.body.op(store.value) {
                    Op::Display(Display::List | Display::Tuple | Display::Set | Display::Dict, args) => args.len > 0,
                    _ => false,
                }
        })
}

/// Names that say that somebody chose the number.
fn configured(body: &Body, at: Val) -> bool {
    let name = match body.op(at) {
        Op::Local(local) => body.locals[local.0 as usize].as_str(),
        Op::Attr { name, .. } | Op::Global(name) => name.as_str(),
        _ => return false,
    };
    let lower = name.to_ascii_lowercase();
    ["worker", "target", "service", "server", "thread", "listener", "daemon", "consumer", "config", "setting"]
        .iter()
        .any(|word| lower.contains(word))
}

/// Does a loop take in what comes from outside?
fn receives(analysis: &Analysis<'_>, func: FuncId, block: &Block) -> bool {
    let body = analysis.body(func);
    let takes = ["accept", "recv", "recvfrom", "get", "get_nowait", "receive", "readline", "poll", "recv_multipart"];
    methods(body, &takes).any(|(call, base, name)| {
        let inside = block.first <= call.0 && call.0 < block.end;
        let queue = matches!(analysis.types.std(analysis.project, func, base), Some(Std::Queue | Std::AsyncQueue));
        inside && (name != "get" || queue)
    })
}

/// Does a loop compare the number of threads with something?
fn counts(body: &Body, test: Val) -> bool {
    let mut work = vec![test];
    while let Some(at) = work.pop() {
        if matches!(body.op(at), Op::Compare { how: crate::body::Compare::Order, .. }) {
            return true;
        }
        body.operands(at, |operand| work.push(operand));
    }
    false
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
