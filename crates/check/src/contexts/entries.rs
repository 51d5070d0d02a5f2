//! Entry points: who starts threads, tasks and callbacks, and what outside callers can call.

use super::calls::is_scope_code;
use super::{CallSite, Entry, EntryKind};
use crate::body::{BlockKind, Body, FunctionKind, Op, Val};
use crate::name::Name;
use crate::parallel;
use crate::project::{FuncId, ModuleId, Project, Symbol};
use crate::types::{Slot, Std, Type, TypeMap};

/// All entry points, in order of their text.
pub(super) fn find(project: &Project, types: &TypeMap, callers: &[Vec<CallSite>]) -> Vec<Entry> {
    let forked = forked(project, types, callers);
    let imported = imported(project);
    let scripts: Vec<bool> = (0..project.modules.len()).map(|idx| !imported[idx] && is_script(project, idx)).collect();
    let each = |func: FuncId| {
        let mut found = Vec::new();
        let module = project.module_of(func).0 as usize;
        if project.function(func).kind == FunctionKind::Module {
            found.push(Entry { kind: EntryKind::Main, func, site: None, multiple: false });
        }
        spawned(project, types, func, &mut found);
        if let Some(kind) = by_definition(project, types, func) {
            // Each thread object has its own `run`; whether several exist shows where they are made.
            let multiple = kind != EntryKind::Thread || made_often(project, func, callers);
            found.push(Entry { kind, func, site: None, multiple });
        } else if !project.is_test[module]
            && !scripts[module]
            && !forked[func.0 as usize]
            && is_public(project, func, callers)
        {
            let on_loop = project.function(func).is_async || is_loop_object(project, types, func);
            let kind = if on_loop { EntryKind::AsyncApi } else { EntryKind::Api };
            found.push(Entry { kind, func, site: None, multiple: true });
        }
        found
    };
    parallel::map(project.function_ids().collect(), each).into_iter().flatten().collect()
}

/// How many steps from a fork hook are followed.
const FORK_STEPS: usize = 4;

/// By function: does it run only in a forked child, where there is one thread: the hooks of `os.register_at_fork`, and
/// what only they call?
fn forked(project: &Project, types: &TypeMap, callers: &[Vec<CallSite>]) -> Vec<bool> {
    let mut found = vec![false; callers.len()];
    for func in project.function_ids() {
        let name = project.function(func).name;
        found[func.0 as usize] |= name.as_str().contains("after_fork") || name.as_str().contains("at_fork");
        let body = &project.function(func).body;
        for call in body.calls() {
            let Op::Call { args, .. } = body.op(call) else { continue };
            if types.external_callee(project, func, call).is_none_or(|name| name != "os.register_at_fork") {
                continue;
            }
            for arg in body.args(args).iter().filter(|arg| arg.name.is_some_and(|name| name == "after_in_child")) {
                for hook in entered(project, types, func, arg.value) {
                    found[hook.0 as usize] = true;
                }
            }
        }
    }
    for _ in 0..FORK_STEPS {
        for func in project.function_ids() {
            let mut calls = callers[func.0 as usize].iter().filter(|site| !site.guessed).peekable();
            found[func.0 as usize] |= calls.peek().is_some() && calls.all(|site| found[site.caller.0 as usize]);
        }
    }
    found
}

/// Does the call of `callee` in `caller` only make a coroutine, for a loop to run?
pub(super) fn makes_coroutine(project: &Project, caller: FuncId, callee: FuncId) -> bool {
    let callee = project.function(callee);
    callee.is_async && !project.function(caller).is_async
}

/// Is the module a program of its own that starts no thread?
fn is_script(project: &Project, idx: usize) -> bool {
    let module = &project.modules[idx];
    let Some(main) = module.functions.first() else { return true };
    let guarded = main.body.vals().any(|val| match main.body.op(val) {
        Op::Compare { left, .. } => matches!(main.body.op(left), Op::Global(name) if name == "__name__"),
        _ => false,
    });
    let concurrent = |name: Name| {
        let top = name.as_str().split('.').next().unwrap_or("");
        matches!(
            top,
            "threading"
                | "asyncio"
                | "concurrent"
                | "queue"
                | "socketserver"
                | "fastapi"
                | "flask"
                | "starlette"
                | "aiohttp"
                | "celery"
                | "_thread"
                | "multiprocessing"
                | "django"
                | "tornado"
        )
    };
    guarded && !module.imports.iter().any(|import| concurrent(import.module))
}

/// By module: does another one import it?
fn imported(project: &Project) -> Vec<bool> {
    let mut found = vec![false; project.modules.len()];
    for (idx, module) in project.modules.iter().enumerate() {
        let importer = ModuleId(crate::project::as_u32(idx));
        for (idx, import) in (0..).zip(&module.imports) {
            let named = project.find_module(importer, import.module, import.level);
            let member = match project.imported(importer, idx) {
                Symbol::Module(module) => Some(module),
                _ => None,
            };
            for module in named.into_iter().chain(member).filter(|module| *module != importer) {
                found[module.0 as usize] = true;
            }
        }
    }
    found
}

/// Is the function a method of an object that lives on an event loop: its class has coroutines, or is a protocol of
/// asyncio, and keeps no lock or thread of the threaded kind?
fn is_loop_object(project: &Project, types: &TypeMap, func: FuncId) -> bool {
    let Some(class) = project.class_of(func) else { return false };
    let mro = &project.class_info(class).mro;
    let coroutines =
        mro.iter().any(|at| project.class_info(*at).methods.values().any(|method| project.function(*method).is_async))
            || project.external_ancestors(class).any(|base| base.as_str().starts_with("asyncio."));
    let threaded = |slot: &Slot| {
        types.slot(*slot).iter().any(|of| {
            let std = types.std_of(project, *of);
            std.is_some_and(|std| {
                std.is_thread_lock() || matches!(std, Std::Thread | Std::Timer | Std::Executor | Std::Queue)
            })
        })
    };
    coroutines && !types.attributes_of(project, class).iter().any(threaded)
}

fn is_public(project: &Project, func: FuncId, callers: &[Vec<CallSite>]) -> bool {
    let function = project.function(func);
    if function.kind != FunctionKind::Def || function.name == "__del__" {
        return false;
    }
    // In a forked child only one thread is left.
    if ["afterfork", "after_fork", "at_fork"].iter().any(|word| function.name.as_str().contains(word)) {
        return false;
    }
    let parent = project.function(project.sibling(func, function.parent));
    let reachable = match parent.kind {
        FunctionKind::Module => true,
        FunctionKind::ClassBody => !parent.qualname.as_str().contains("<lambda>"),
        // Who calls a decorated function calls the wrapper.
        FunctionKind::Def => return super::wrappers::is_wrapper(project, func),
        FunctionKind::Lambda => false,
    };
    // What nothing here calls is called from outside, whatever its name.
    reachable && (!function.name.is_private() || callers[func.0 as usize].iter().all(|site| site.guessed))
}

/// Entry points by what they are: `run` of threads, handlers of servers, finalizers.
fn by_definition(project: &Project, types: &TypeMap, func: FuncId) -> Option<EntryKind> {
    let function = project.function(func);
    if function.kind != FunctionKind::Def {
        return None;
    }
    if function.name == "__del__" {
        return Some(EntryKind::Finalizer);
    }
    if let Some(class) = project.class_of(func) {
        let bases: Vec<Name> = project.external_ancestors(class).collect();
        let has = |suffixes: &[&str]| {
            bases.iter().any(|base| suffixes.iter().any(|suffix| base.as_str().rsplit('.').next() == Some(suffix)))
        };
        let name = function.name.as_str();
        if name == "run" && has(&["Thread", "Timer", "QThread"]) {
            return Some(EntryKind::Thread);
        }
        if (name.starts_with("do_") || matches!(name, "handle" | "setup" | "finish"))
            && has(&[
                "BaseHTTPRequestHandler",
                "StreamRequestHandler",
                "BaseRequestHandler",
                "SimpleHTTPRequestHandler",
            ])
        {
            return Some(EntryKind::Handler);
        }
        if matches!(name, "process_request" | "process_request_thread")
            && has(&["ThreadingMixIn", "ThreadingHTTPServer"])
        {
            return Some(EntryKind::Handler);
        }
        if name == "emit" && has(&["Handler", "StreamHandler"]) {
            return Some(EntryKind::Hook);
        }
        if matches!(name, "get" | "post" | "put" | "delete" | "patch" | "dispatch")
            && has(&["View", "APIView", "MethodView", "HTTPEndpoint", "Resource"])
        {
            return Some(if function.is_async { EntryKind::Task } else { EntryKind::Handler });
        }
    }
    is_decorated_handler(project, types, func).then_some(if function.is_async {
        EntryKind::Task
    } else {
        EntryKind::Handler
    })
}

fn is_decorated_handler(project: &Project, types: &TypeMap, func: FuncId) -> bool {
    let function = project.function(func);
    let parent = project.sibling(func, function.parent);
    let body = &project.function(parent).body;
    function.decorators.iter().any(|decorator| {
        let (target, called) = match body.op(*decorator) {
            Op::Call { func, .. } => (func, true),
            _ => (*decorator, false),
        };
        match body.op(target) {
            Op::Attr { base, name } => {
                let on_project_class = types.of(parent, base).iter().any(|of| matches!(of, Type::Instance(_)));
                let routes = matches!(
                    name.as_str(),
                    "get"
                        | "post"
                        | "put"
                        | "delete"
                        | "patch"
                        | "options"
                        | "head"
                        | "websocket"
                        | "route"
                        | "api_route"
                        | "on_event"
                        | "exception_handler"
                        | "middleware"
                        | "before_request"
                        | "after_request"
                        | "teardown_request"
                        | "errorhandler"
                        | "websocket_route"
                );
                let tasks = matches!(name.as_str(), "task" | "periodic_task" | "actor");
                called && (routes || tasks) && !on_project_class
                    || matches!(name.as_str(), "before_request" | "after_request" | "task") && !on_project_class
            }
            Op::Global(name) => match project.lookup(project.module_of(parent), name) {
                Symbol::External(dotted) => {
                    matches!(dotted.as_str(), "celery.shared_task" | "dramatiq.actor" | "shared_task")
                }
                _ => false,
            },
            _ => false,
        }
    })
}

/// The functions that a call hands to a thread, pool, loop or hook: the argument, and how it will run.
pub(super) fn handed_over(project: &Project, types: &TypeMap, func: FuncId, call: Val) -> Vec<(Val, EntryKind)> {
    let body = &project.function(func).body;
    let Op::Call { func: target, args } = body.op(call) else { return Vec::new() };
    let args = body.args(args);
    let named = |name: &str| args.iter().find(|arg| arg.name.is_some_and(|arg| arg == name)).map(|arg| arg.value);
    let nth = |idx: usize| args.get(idx).filter(|arg| arg.name.is_none() && !arg.starred).map(|arg| arg.value);
    let one = |val: Option<Val>, kind: EntryKind| val.map(|val| (val, kind)).into_iter().collect::<Vec<_>>();
    let all = |kind: EntryKind| args.iter().map(|arg| (arg.value, kind)).collect::<Vec<_>>();
    if let Some(dotted) = types.external_callee(project, func, call) {
        match dotted.as_str() {
            "threading.Thread" => return one(named("target").or(nth(1)), EntryKind::Thread),
            "threading.Timer" => return one(named("function").or(nth(1)), EntryKind::Thread),
            "_thread.start_new_thread" | "thread.start_new_thread" => return one(nth(0), EntryKind::Thread),
            "asyncio.to_thread"
            | "anyio.to_thread.run_sync"
            | "starlette.concurrency.run_in_threadpool"
            | "fastapi.concurrency.run_in_threadpool"
            | "asgiref.sync.sync_to_async"
            | "trio.to_thread.run_sync" => {
                return one(nth(0), EntryKind::Pool);
            }
            "asyncio.create_task" | "asyncio.ensure_future" | "asyncio.run" | "asyncio.run_coroutine_threadsafe" => {
                return one(nth(0), EntryKind::Task);
            }
            "asyncio.gather" | "asyncio.wait" => return all(EntryKind::Task),
            "fastapi.Depends" | "fastapi.params.Depends" | "fastapi.Security" => {
                return one(nth(0), EntryKind::Handler);
            }
            // Signal and exit handlers run on the main thread.
            "atexit.register" => return one(nth(0), EntryKind::Main),
            "signal.signal" => return one(nth(1), EntryKind::Main),
            "weakref.ref" | "weakref.finalize" | "weakref.proxy" | "weakref.WeakMethod" => {
                return one(nth(1), EntryKind::Finalizer);
            }
            "gc.callbacks.append" => return one(nth(0), EntryKind::Finalizer),
            _ => {}
        }
    }
    let Op::Attr { base, name } = body.op(target) else {
        return subclass_target(project, types, func, target, named("target"));
    };
    match name.as_str() {
        "submit" | "map" | "apply_async" | "starmap" | "imap" | "imap_unordered" | "apply"
            if is_pool(project, types, func, base) =>
        {
            one(nth(0), EntryKind::Pool)
        }
        "run_in_executor" => one(nth(1), EntryKind::Pool),
        "create_task" | "ensure_future" | "run_until_complete" | "start_soon" => one(nth(0), EntryKind::Task),
        "call_soon" | "call_soon_threadsafe" | "add_signal_handler"
            if types.of(func, base).contains(&Type::Std(Std::Loop)) =>
        {
            one(nth(usize::from(name == "add_signal_handler")), EntryKind::Task)
        }
        "call_later" | "call_at" => one(nth(1), EntryKind::Task),
        "add_done_callback" if types.std(project, func, base) == Some(Std::Future) => one(nth(0), EntryKind::Pool),
        "add_job" | "add_task" => one(nth(0), EntryKind::Pool),
        _ => subclass_target(project, types, func, target, named("target")),
    }
}

/// `SomeThread(target=f)` for a subclass of `Thread`.
fn subclass_target(
    project: &Project,
    types: &TypeMap,
    func: FuncId,
    target: Val,
    given: Option<Val>,
) -> Vec<(Val, EntryKind)> {
    let makes_thread = types.of(func, target).iter().any(|of| match of {
        Type::Class(class) => project
            .external_ancestors(*class)
            .any(|base| matches!(base.as_str(), "threading.Thread" | "threading.Timer")),
        _ => false,
    });
    given.filter(|_| makes_thread).map(|val| (val, EntryKind::Thread)).into_iter().collect()
}

fn is_pool(project: &Project, types: &TypeMap, func: FuncId, base: Val) -> bool {
    if let Some(std) = types.std(project, func, base) {
        return std == Std::Executor;
    }
    let body = &project.function(func).body;
    let name = match body.op(base) {
        Op::Attr { name, .. } | Op::Global(name) => name.as_str().to_ascii_lowercase(),
        Op::Local(local) => body.locals[local.0 as usize].as_str().to_ascii_lowercase(),
        _ => return false,
    };
    types.of(func, base).iter().all(|of| matches!(of, Type::None))
        && (name.contains("executor") || name.contains("thread_pool") || name.contains("threadpool"))
}

fn spawned(project: &Project, types: &TypeMap, func: FuncId, found: &mut Vec<Entry>) {
    let body = &project.function(func).body;
    for call in body.calls() {
        let Op::Call { func: target, args } = body.op(call) else { continue };
        for callee in types.callees(project, func, call) {
            if makes_coroutine(project, func, callee.func) && !callee.guessed {
                let multiple = in_loop(body, call);
                found.push(Entry { kind: EntryKind::Task, func: callee.func, site: Some((func, call)), multiple });
            }
        }
        let handed = handed_over(project, types, func, call);
        for arg in body.args(args).iter().filter(|arg| handed.iter().all(|(value, _)| *value != arg.value)) {
            for of in types.of(func, arg.value) {
                if let Type::Function(callee) | Type::Method(callee) = of {
                    // A coroutine function that is handed on is run by a loop, sooner or later.
                    if makes_coroutine(project, func, *callee) {
                        found.push(Entry {
                            kind: EntryKind::Task,
                            func: *callee,
                            site: Some((func, call)),
                            multiple: false,
                        });
                    }
                }
            }
        }
        for (value, kind) in handed {
            let multiple = match kind {
                EntryKind::Thread | EntryKind::Task => {
                    in_loop(body, call) || (is_method_name(body, target, "gather") && args.len > 1)
                }
                EntryKind::Main => false,
                _ => true,
            };
            for entered in entered(project, types, func, value) {
                let kind = match kind {
                    EntryKind::Handler if project.function(entered).is_async => EntryKind::Task,
                    other => other,
                };
                found.push(Entry { kind, func: entered, site: Some((func, call)), multiple });
            }
        }
    }
}

/// The functions that run when a value is handed over: functions, bound methods, or the coroutine of a call.
fn entered(project: &Project, types: &TypeMap, func: FuncId, value: Val) -> Vec<FuncId> {
    let body = &project.function(func).body;
    if let Op::Call { func: target, args } = body.op(value) {
        let partial = types.external_callee(project, func, value).is_some_and(|name| name == "functools.partial");
        if partial {
            let first = body.args(args).first().map(|arg| arg.value);
            return first.map(|first| entered(project, types, func, first)).unwrap_or_default();
        }
        let mut callees = smallvec::SmallVec::new();
        types.targets(project, func, target, &mut callees);
        return callees.iter().map(|callee| callee.func).filter(|callee| project.function(*callee).is_async).collect();
    }
    let mut callees = smallvec::SmallVec::new();
    types.targets(project, func, value, &mut callees);
    callees.iter().map(|callee| callee.func).filter(|callee| !is_scope_code(project, *callee)).collect()
}

/// Is the class of this `run` instantiated in a loop, or in more than one place?
fn made_often(project: &Project, run: FuncId, callers: &[Vec<CallSite>]) -> bool {
    let Some(init) = project.class_of(run).and_then(|class| project.method(class, Name::new("__init__"))) else {
        return false;
    };
    let sites: Vec<&CallSite> = callers[init.0 as usize].iter().filter(|site| !is_super_call(project, site)).collect();
    sites.len() > 1 || sites.iter().any(|site| in_loop(&project.function(site.caller).body, site.at))
}

fn is_super_call(project: &Project, site: &CallSite) -> bool {
    project.function(site.caller).name == "__init__"
}

fn in_loop(body: &Body, val: Val) -> bool {
    body.enclosing(val).any(|(_, block)| matches!(block.kind, BlockKind::Loop(_)))
}

fn is_method_name(body: &Body, target: Val, wanted: &str) -> bool {
    matches!(body.op(target), Op::Attr { name, .. } if name == wanted)
}
