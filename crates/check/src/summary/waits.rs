//! Calls that wait, by a table: for a thread, a result, a queue, an event, a process, the network, the disk.

use crate::body::{Arg, Body, Op, Val};
use crate::project::{FuncId, Project};
use crate::types::{Std, Type, TypeMap};

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wait {
    /// The end of a thread.
    Join,
    /// The result of a future, or the end of a pool.
    Result,
    /// An item of a queue.
    Queue,
    /// An event or a barrier.
    Event,
    /// A condition, which lets go of its own lock only.
    Condition,
    /// Time.
    Sleep,
    /// Another process.
    Process,
    /// The network.
    Network,
    /// The disk.
    File,
}

impl Wait {
    /// As in "waits for a thread to end".
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Wait::Join => "waits for a thread to end",
            Wait::Result => "waits for a result",
            Wait::Queue => "waits for an item of a queue",
            Wait::Event => "waits for an event",
            Wait::Condition => "waits for a condition",
            Wait::Sleep => "sleeps",
            Wait::Process => "waits for another process",
            Wait::Network => "waits for the network",
            Wait::File => "waits for the disk",
        }
    }
}

/// What a call waits for, and whether a timeout bounds it; `None` for calls that do not wait.
#[must_use]
pub fn of(project: &Project, types: &TypeMap, func: FuncId, call: Val) -> Option<(Wait, bool)> {
    let body = &project.function(func).body;
    let Op::Call { func: target, args } = body.op(call) else { return None };
    let args = body.args(args);
    if let Some(dotted) = types.external_callee(project, func, call) {
        return external(dotted.as_str(), body, args);
    }
    let Op::Attr { base, name } = body.op(target) else { return None };
    let known = types.of(func, base);
    if matches!(name.as_str(), "write_text" | "write_bytes" | "read_text" | "read_bytes")
        && known.iter().all(|of| matches!(of, Type::Plain | Type::Foreign(_)))
        && !known.is_empty()
    {
        return Some((Wait::File, false));
    }
    let std = types.std(project, func, base)?;
    method(std, name.as_str(), body, args)
}

fn external(dotted: &str, body: &Body, args: &[Arg]) -> Option<(Wait, bool)> {
    let first_is_zero = args.first().is_some_and(|arg| matches!(body.op(arg.value), Op::None | Op::Truth(_)));
    let timeout = named(args, "timeout").is_some();
    Some(match dotted {
        "time.sleep" if !first_is_zero => (Wait::Sleep, false),
        "subprocess.run"
        | "subprocess.call"
        | "subprocess.check_call"
        | "subprocess.check_output"
        | "os.system"
        | "os.waitpid" => (Wait::Process, timeout),
        "urllib.request.urlopen" | "urllib2.urlopen" | "socket.create_connection" | "socket.getaddrinfo" => {
            (Wait::Network, timeout)
        }
        "concurrent.futures.wait" => (Wait::Result, timeout),
        "asyncio.run" => (Wait::Result, false),
        "input" => (Wait::Event, false),
        _ => {
            let (module, verb) = dotted.rsplit_once('.')?;
            let sends = matches!(verb, "get" | "post" | "put" | "delete" | "patch" | "head" | "request" | "options");
            if matches!(module, "requests" | "httpx") && sends {
                return Some((Wait::Network, timeout));
            }
            return None;
        }
    })
}

fn method(std: Std, name: &str, body: &Body, args: &[Arg]) -> Option<(Wait, bool)> {
    let first = args.first().filter(|arg| arg.name.is_none()).map(|arg| arg.value);
    let timeout = named(args, "timeout").or(first).is_some_and(|val| !matches!(body.op(val), Op::None));
    Some(match (std, name) {
        (Std::Thread | Std::Timer, "join") => (Wait::Join, timeout),
        (Std::Future, "result" | "exception") => (Wait::Result, timeout),
        (Std::Executor, "shutdown") => {
            let waits = named(args, "wait").or(first).is_none_or(|val| !matches!(body.op(val), Op::Truth(false)));
            return waits.then_some((Wait::Result, false));
        }
        (Std::Queue, "get") => {
            let block = named(args, "block").or(first);
            if block.is_some_and(|val| !matches!(body.op(val), Op::Truth(true))) {
                return None;
            }
            let timeout = named(args, "timeout").or(args.get(1).map(|arg| arg.value));
            (Wait::Queue, timeout.is_some_and(|val| !matches!(body.op(val), Op::None)))
        }
        (Std::Queue, "join") => (Wait::Queue, false),
        (Std::Event | Std::Barrier, "wait") => (Wait::Event, timeout),
        (Std::Condition, "wait") => (Wait::Condition, timeout),
        (Std::Condition, "wait_for") => (Wait::Condition, named(args, "timeout").is_some() || args.len() > 1),
        (Std::Process, "join") | (Std::Resource, "communicate") => (Wait::Process, timeout),
        (Std::Resource, "accept") => (Wait::Network, false),
        (Std::Loop, "run_until_complete" | "run_forever") => (Wait::Result, false),
        _ => return None,
    })
}

fn named(args: &[Arg], name: &str) -> Option<Val> {
    args.iter().find(|arg| arg.name.is_some_and(|arg| arg == name)).map(|arg| arg.value)
}

/// How `acquire` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquires {
    /// Until the lock is there.
    Waits,
    /// At most for some time.
    Bounded,
    /// Not at all.
    Tries,
}

/// How an `acquire()` call waits; `with` waits until the lock is there.
#[must_use]
pub fn acquires(body: &Body, at: Val) -> Acquires {
    let Op::Call { args, .. } = body.op(at) else { return Acquires::Waits };
    let args = body.args(args);
    let nth = |idx: usize| args.get(idx).filter(|arg| arg.name.is_none() && !arg.starred).map(|arg| arg.value);
    let blocking = named(args, "blocking").or(named(args, "block")).or(nth(0));
    if let Some(val) = blocking {
        match body.op(val) {
            Op::Truth(true) => {}
            // `acquire(0)`, `acquire(False)`, `acquire(blocking)`: it may not wait.
            _ => return Acquires::Tries,
        }
    }
    if args.iter().any(|arg| arg.starred) {
        return Acquires::Tries;
    }
    match named(args, "timeout").or(nth(1)) {
        Some(_) => Acquires::Bounded,
        None => Acquires::Waits,
    }
}
