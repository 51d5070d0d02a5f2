//! See `no_shutdown.md` beside this file: it is the documentation and the test.

use facts::{Confidence, Finding, RuleInfo, Severity, Span};

use super::Rule;
use crate::analysis::Analysis;
use crate::analysis::failures::methods;
use crate::analysis::spawned::{Made, Spawned, Trail};
use crate::body::{BlockKind, Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::{Slot, Std, Type};

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "no-shutdown",
        code: "RP403",
        severity: Severity::Warning,
        summary: "a thread or executor is started, and no code ends it",
        docs: include_str!("no_shutdown.md"),
        on_by_default: true,
    },
    check,
};

/// Methods by which an object is ended.
const ENDS: [&str; 12] = [
    "close",
    "stop",
    "shutdown",
    "terminate",
    "quit",
    "join",
    "aclose",
    "disconnect",
    "teardown",
    "cancel",
    "__exit__",
    "__aexit__",
];

struct Fault {
    message: String,
    related: Option<(Span, &'static str)>,
    confidence: Confidence,
}

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let spawned = analysis.spawned();
    if spawned.is_empty() {
        return;
    }
    let reads = analysis.reads();
    for made in spawned.iter().filter(|made| !analysis.is_test(made.func)) {
        let trail = analysis.trail(reads, made.func, made.call);
        let fault = match made.made {
            Made::Thread => thread(analysis, made, &trail),
            Made::Executor => executor(analysis, made, &trail),
            Made::Timer => None,
        };
        let Some(fault) = fault else { continue };
        let mut finding = Finding::new(&RULE.info, analysis.span(made.func, made.call), fault.message)
            .within(analysis.symbol(made.func))
            .confidence(fault.confidence);
        if let Some(Slot::Attr(_, name)) = trail.slots.first() {
            finding = finding.on(format!("self.{name}"));
        }
        if let Some((span, message)) = fault.related {
            finding = finding.also(span, message);
        }
        found.push(finding);
    }
}

/// A thread that nobody joins, if its end matters.
fn thread(analysis: &Analysis<'_>, made: &Spawned, trail: &Trail) -> Option<Fault> {
    if trail.escapes || trail.uses(&["join"]) || made.targets.is_empty() || joins_itself(analysis, made) {
        return None;
    }
    let daemon = is_daemon(analysis, made, trail);
    if daemon {
        let (span, what) = made.targets.iter().find_map(|target| owned(analysis, made, *target))?;
        return Some(Fault {
            message: format!("a daemon thread that owns a {what} is never ended: at exit it stops in the middle"),
            related: Some((span, "this is left as it is")),
            confidence: Confidence::Medium,
        });
    }
    let own = trail.slots.iter().find_map(|slot| match slot {
        Slot::Attr(class, name) => Some((*class, *name)),
        _ => None,
    });
    let endless = made.targets.iter().find_map(|target| endless(analysis, *target));
    if let Some(span) = endless {
        return Some(Fault {
            message: "a thread without an end is never told to stop: the process does not exit".to_owned(),
            related: Some((span, "this loop has no way out")),
            confidence: if own.is_some() { Confidence::Medium } else { Confidence::Low },
        });
    }
    let (class, _) = own?;
    let (stop, span) = signals(analysis, class, made)?;
    let name = analysis.project.function(stop).name;
    Some(Fault {
        message: format!("`{name}` tells the thread to stop and does not wait for it"),
        related: Some((span, "the signal is given here, and nobody joins the thread")),
        confidence: if closes_more(analysis, stop, made) { Confidence::Medium } else { Confidence::Low },
    })
}

/// A subclass of `Thread` whose own methods join it.
fn joins_itself(analysis: &Analysis<'_>, made: &Spawned) -> bool {
    let Some(class) = made.class else { return false };
    let mut own = analysis.project.class_info(class).methods.values();
    own.any(|method| methods(analysis.body(*method), &["join"]).next().is_some())
}

fn is_daemon(analysis: &Analysis<'_>, made: &Spawned, trail: &Trail) -> bool {
    let says = |func: FuncId, call: Val| {
        let body = analysis.body(func);
        let Op::Call { args, .. } = body.op(call) else { return false };
        let daemon = body.args(args).iter().find(|arg| arg.name.is_some_and(|name| name == "daemon"));
        daemon.is_some_and(|arg| !matches!(body.op(arg.value), Op::Truth(false) | Op::None))
    };
    let stored = |name: Name| name == "daemon" || name == "_daemonic";
    let on_class = |class: ClassId| {
        let info = analysis.project.class_info(class);
        info.mro.iter().any(|class| {
            let info = analysis.project.class_info(*class);
            let code = analysis.project.func_id(info.module, analysis.project.class(*class).body);
            info.methods.values().copied().chain([code]).any(|method| {
                let body = analysis.body(method);
                body.vals().any(|val| match body.op(val) {
                    Op::Call { .. } => says(method, val),
                    Op::StoreAttr { name, .. } => stored(name),
                    Op::StoreLocal { local, .. } => method == code && stored(body.locals[local.0 as usize]),
                    Op::Attr { name, .. } => name == "setDaemon",
                    _ => false,
                })
            })
        })
    };
    says(made.func, made.call)
        || trail.stored.iter().any(|(name, ..)| stored(*name))
        || trail.uses(&["setDaemon"])
        || made.class.is_some_and(on_class)
}

/// A loop that nothing leaves.
fn endless(analysis: &Analysis<'_>, func: FuncId) -> Option<Span> {
    let body = analysis.body(func);
    body.blocks.iter().find_map(|block| {
        let BlockKind::Loop(test) = block.kind else { return None };
        let always = match body.op(test) {
            Op::Truth(value) => value,
            Op::Scalar => true,
            _ => false,
        };
        let leaves = (block.first..block.end).map(Val).any(|val| match body.op(val) {
            Op::Break | Op::Return(_) | Op::Raise(_) | Op::Yield(_) => true,
            // What it calls may end the thread or the process.
            Op::Call { func: target, .. } => {
                matches!(body.op(target), Op::Attr { name, .. } | Op::Global(name) if name.as_str().contains("exit"))
            }
            _ => false,
        });
        (always && !leaves).then(|| analysis.span(func, test))
    })
}

/// The file or socket that a daemon thread writes to in an endless loop of its own.
fn owned(analysis: &Analysis<'_>, made: &Spawned, target: FuncId) -> Option<(Span, &'static str)> {
    let body = analysis.body(target);
    let loops = |val: Val| analysis.loops_around(target, val).any(|_| true);
    methods(body, &["write", "writelines", "sendall", "send", "writerow"]).find_map(|(call, base, _)| {
        if !loops(call) || endless(analysis, target).is_none() {
            return None;
        }
        let own = match body.op(base) {
            Op::Local(_) => true,
            // An attribute of the thread object itself.
            Op::Attr { base, .. } => made.class.is_some() && matches!(body.op(base), Op::Local(local) if local.0 == 0),
            _ => false,
        };
        let resource = analysis.types.of(target, base).contains(&Type::Std(Std::Resource));
        let what = if matches!(body.op(base), Op::Local(_)) { "file" } else { "file or socket" };
        (own && resource).then(|| (analysis.span(target, base), what))
    })
}

/// The method of the class that tells the thread to stop: by an event, a flag, or a last item in a queue.
fn signals(analysis: &Analysis<'_>, class: ClassId, made: &Spawned) -> Option<(FuncId, Span)> {
    ENDS.iter().find_map(|name| {
        let method = *analysis.project.class_info(class).methods.get(&Name::new(name))?;
        let body = analysis.body(method);
        let set = methods(body, &["set"]).find(|(_, base, _)| {
            let is_event = analysis.types.std(analysis.project, method, *base) == Some(Std::Event);
            let slots = analysis.types.slots_of(analysis.project, method, *base);
            is_event && made.targets.iter().any(|target| mentions(analysis, *target, &slots))
        });
        set.map(|(call, ..)| (method, analysis.span(method, call)))
    })
}

/// Does the thread look at one of these?
fn mentions(analysis: &Analysis<'_>, func: FuncId, slots: &[Slot]) -> bool {
    let named = |val: Val| analysis.types.slots_of(analysis.project, func, val);
    analysis.body(func).vals().any(|val| named(val).iter().any(|slot| slots.contains(slot)))
}

/// Does a stopping method go on to close something that the thread uses?
fn closes_more(analysis: &Analysis<'_>, stop: FuncId, made: &Spawned) -> bool {
    let body = analysis.body(stop);
    methods(body, &["close", "disconnect", "terminate", "shutdown", "release", "clear"]).any(|(_, base, _)| {
        let slots = analysis.types.slots_of(analysis.project, stop, base);
        let event = analysis.types.std(analysis.project, stop, base) == Some(Std::Event);
        !event && made.targets.iter().any(|target| mentions(analysis, *target, &slots))
    })
}

/// An executor that nobody shuts down.
fn executor(analysis: &Analysis<'_>, made: &Spawned, trail: &Trail) -> Option<Fault> {
    let ended = ["shutdown", "close", "terminate", "join", "__exit__", "stop"];
    if trail.escapes || trail.entered || trail.uses(&ended) || analysis.is_import_code(made.func) {
        return None;
    }
    if trail.slots.is_empty() {
        return Some(Fault {
            message: "an executor is made for each call and never shut down".to_owned(),
            related: None,
            confidence: Confidence::Medium,
        });
    }
    let class = trail.slots.iter().find_map(|slot| match slot {
        Slot::Attr(class, _) => Some(*class),
        _ => None,
    })?;
    let method = ENDS.iter().find_map(|name| analysis.project.method(class, Name::new(name)));
    let name = analysis.project.class(class).name;
    Some(Fault {
        message: match method {
            Some(method) => {
                format!("`{name}.{}` does not shut the executor down", analysis.project.function(method).name)
            }
            None => format!("`{name}` never shuts its executor down"),
        },
        related: method.map(|method| (analysis.project.head(method), "the object is ended here")),
        confidence: if method.is_some() { Confidence::Medium } else { Confidence::Low },
    })
}
