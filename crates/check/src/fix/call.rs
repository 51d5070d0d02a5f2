//! Other calls in the place of those that are wrong on this thread, lose an error, or give away a live container.

use facts::{Edit, Fix, Safety, Span};

use super::sheet::Sheet;
use super::{import, local};
use crate::analysis::Analysis;
use crate::body::{Display, Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::source::outline::{Kind, Role};
use crate::types::{Slot, Std, Type};

/// Hands a call to the loop's own thread.
#[must_use]
pub fn through_loop(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let body = analysis.body(func);
    let Op::Call { func: target, args } = body.op(call) else { return None };
    let (base, name) = analysis.method_call(func, call)?;
    let node = body.node(call);
    let receiver = analysis.files.text(analysis.span(func, base));
    let given = sheet.slice(body.node(target).end + 1, node.end.checked_sub(1)?);
    let plain = body.args(args).iter().all(|arg| arg.name.is_none()) && !given.contains('\n');
    if !local::is_plain(receiver) || !plain {
        return None;
    }
    let mut edits = Vec::new();
    let (std, separator) = (analysis.types.std(analysis.project, func, base), if given.is_empty() { "" } else { ", " });
    let text = match (std, name) {
        (Some(Std::Loop), "call_soon") => format!("{receiver}.call_soon_threadsafe({given})"),
        (Some(Std::Loop), "stop") => format!("{receiver}.call_soon_threadsafe({receiver}.stop)"),
        (Some(Std::Loop), "create_task") if args.len == 1 => {
            let module = analysis.project.module_of(func);
            let run = import::member(analysis, sheet, module, "asyncio", "run_coroutine_threadsafe", u32::MAX)?;
            edits.extend(run.edit);
            format!("{}({given}, {receiver})", run.text)
        }
        (Some(Std::AsyncFuture), "set_result" | "set_exception") => {
            format!("{receiver}.get_loop().call_soon_threadsafe({receiver}.{name}{separator}{given})")
        }
        (Some(Std::AsyncQueue), "put_nowait") | (Some(Std::AsyncEvent), "set" | "clear") => {
            let owner = loop_at_hand(analysis, func)?;
            format!("{owner}.call_soon_threadsafe({receiver}.{name}{separator}{given})")
        }
        _ => return None,
    };
    let title = format!("hand `{receiver}.{name}` to the loop's thread");
    edits.push(sheet.edit(node.start, node.end, text));
    Some(Fix { safety: Safety::Safe, title, edits })
}

/// How the function can name an event loop: a parameter, a captured local, an attribute of its object.
fn loop_at_hand(analysis: &Analysis<'_>, func: FuncId) -> Option<String> {
    let body = analysis.body(func);
    let is_loop = |val: Val| analysis.types.std(analysis.project, func, val) == Some(Std::Loop);
    let named = body.vals().find(|val| matches!(body.op(*val), Op::Param(_)) && is_loop(*val));
    if let Some(Op::Param(idx)) = named.map(|val| body.op(val)) {
        return body.locals.get(idx as usize).map(|name| name.to_string());
    }
    let class = analysis.project.class_of(func)?;
    let this = body.locals.first()?;
    let slots = analysis.types.attributes();
    let found = slots.iter().find_map(|(owner, slot)| match slot {
        Slot::Attr(_, name)
            if analysis.project.class_info(class).mro.contains(owner)
                && analysis.types.slot(*slot).contains(&Type::Std(Std::Loop)) =>
        {
            Some(*name)
        }
        _ => None,
    });
    found.map(|name| format!("{this}.{name}"))
}

/// Reports an error that an `except` swallows. `handler` begins where the clause does.
#[must_use]
pub fn report_error(analysis: &Analysis<'_>, func: FuncId, handler: Span) -> Option<Fix> {
    let sheet = Sheet::of(analysis, handler.file)?;
    let outline = sheet.outline;
    let suite = outline.suites.iter().find(|suite| {
        suite.role == Role::Handler && suite.head_start <= handler.start && handler.start < suite.head_end
    })?;
    let [only] = suite.statements[..] else { return None };
    if sheet.statement(only) != "pass" {
        return None;
    }
    let what = analysis.symbol(func);
    let what = if what.is_empty() { "the module" } else { what };
    let (logger, mut edits) = logger(analysis, sheet, func)?;
    let line = format!("{logger}.exception(\"an error in {what}\")");
    edits.push(sheet.edit(sheet.start(only), sheet.end(only), line));
    Some(Fix { safety: Safety::Safe, title: "log the error".to_owned(), edits })
}

/// Reports the errors of work that is handed to a pool or loop and not looked at again. `call` hands it over.
#[must_use]
pub fn report_job(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let outline = sheet.outline;
    let node = analysis.body(func).node(call);
    let statement = outline.at(node.start)?;
    let text = sheet.slice(node.start, node.end);
    if sheet.statement(statement) != text || analysis.is_import_code(func) {
        return None;
    }
    if let Some((_, "map")) = analysis.method_call(func, call) {
        let edits = vec![sheet.edit(node.start, node.start, "list("), sheet.edit(node.end, node.end, ")")];
        return Some(Fix {
            safety: Safety::Unsafe,
            title: "read the results, which raises the first error".to_owned(),
            edits,
        });
    }
    let is_task = text.contains("create_task(") || text.contains("ensure_future(");
    let title = match is_task {
        true => "keep the task until it is done, and log its error",
        false => "log the error when the job is done",
    };
    let (name, mut edits) = reporter(analysis, sheet, func, statement, is_task)?;
    match is_task {
        true => {
            edits.push(sheet.edit(node.start, node.start, format!("{name}(")));
            edits.push(sheet.edit(node.end, node.end, ")"));
        }
        false => edits.push(sheet.edit(node.end, node.end, format!(".add_done_callback({name})"))),
    }
    Some(Fix { safety: Safety::Safe, title: title.to_owned(), edits })
}

/// The function of the module that reports how a job or task ended, and what makes it if it is not there yet.
pub(super) fn reporter(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    func: FuncId,
    statement: usize,
    is_task: bool,
) -> Option<(&'static str, Vec<Edit>)> {
    let (name, helper) = if is_task { ("_keep_task", KEEP_TASK) } else { ("_report_error", REPORT_ERROR) };
    let module = analysis.project.module_of(func);
    if analysis.project.globals[module.0 as usize].contains_key(&Name::new(name)) {
        return Some((name, Vec::new()));
    }
    let (logger, mut edits) = logger(analysis, sheet, func)?;
    let text = helper.replace("LOGGER", &logger).replace("    ", &sheet.unit(statement)).replace('\n', sheet.eol());
    edits.push(sheet.line_above(definitions(sheet, statement)?, &text)?);
    Some((name, edits))
}

/// The statement of the module above which new definitions stand that `statement` needs: its first function or class.
pub(super) fn definitions(sheet: Sheet<'_>, statement: usize) -> Option<usize> {
    let outline = sheet.outline;
    let outermost = outline.around(statement).last()?;
    let defines = |idx: &usize| matches!(outline.statements[*idx].kind, Kind::Function | Kind::Class);
    let first = outline.suites[0].statements.iter().copied().find(defines);
    Some(first.map_or(outermost, |first| first.min(outermost)))
}

const REPORT_ERROR: &str = "\
def _report_error(done):
    if not done.cancelled() and done.exception() is not None:
        LOGGER.error(\"a job failed\", exc_info=done.exception())

";

const KEEP_TASK: &str = "\
_kept_tasks = set()


def _keep_task(task):
    _kept_tasks.add(task)
    task.add_done_callback(_finish_task)


def _finish_task(task):
    _kept_tasks.discard(task)
    if not task.cancelled() and task.exception() is not None:
        LOGGER.error(\"a task failed\", exc_info=task.exception())

";

/// How a function names a logger, and the import that this takes.
fn logger(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId) -> Option<(String, Vec<Edit>)> {
    if let Some(logger) = own_logger(analysis, func) {
        return Some((logger, Vec::new()));
    }
    let get = import::member(analysis, sheet, analysis.project.module_of(func), "logging", "getLogger", u32::MAX)?;
    Some((format!("{}(__name__)", get.text), get.edit.into_iter().collect()))
}

/// A logger of the module.
fn own_logger(analysis: &Analysis<'_>, func: FuncId) -> Option<String> {
    let module = analysis.project.module_of(func);
    let mut names: Vec<&Name> = analysis.project.globals[module.0 as usize].keys().collect();
    names.sort_by_key(|name| name.as_str());
    let found = names.into_iter().find(|name| {
        let types = analysis.types.slot(Slot::Global(module, **name));
        types.contains(&Type::Std(Std::Logger)) && !analysis.body(func).locals.contains(name)
    });
    found.map(|name| name.to_string())
}

/// Gives a copy to the caller instead of the container or a view of it. `value` is what is returned or yielded.
#[must_use]
pub fn hand_out_copy(analysis: &Analysis<'_>, func: FuncId, value: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let body = analysis.body(func);
    // A local was filled under the lock: there the copy has to be made.
    let value = body.origin(value);
    let node = body.node(value);
    let text = sheet.slice(node.start, node.end);
    let around = |before: &str, after: &str| {
        vec![sheet.edit(node.start, node.start, before), sheet.edit(node.end, node.end, after)]
    };
    let lazy = |name: Name| matches!(name.as_str(), "filter" | "map" | "zip" | "enumerate" | "reversed");
    let edits = match node.op {
        Op::Comprehension(Display::Generator, _) if text.starts_with('(') && text.ends_with(')') => {
            vec![sheet.edit(node.start, node.start + 1, "["), sheet.edit(node.end - 1, node.end, "]")]
        }
        Op::Call { func: target, args } => match body.op(target) {
            Op::Attr { name, .. } if matches!(name.as_str(), "keys" | "values" | "items") => around("list(", ")"),
            Op::Global(name) if name == "iter" && args.len == 1 => {
                let inner = body.node(body.args(args)[0].value);
                vec![sheet.edit(inner.start, inner.start, "list("), sheet.edit(inner.end, inner.end, ")")]
            }
            Op::Global(name) if lazy(name) => around("list(", ")"),
            _ => return None,
        },
        Op::Attr { .. } | Op::Global(_) | Op::Item { .. } | Op::Captured(..)
            if analysis.types.container(analysis.project, func, value).is_some() =>
        {
            around("", ".copy()")
        }
        _ => return None,
    };
    let mut edits = edits;
    edits.retain(|edit| !edit.text.is_empty());
    let shown = if text.contains('\n') { "it" } else { text };
    Some(Fix { safety: Safety::Safe, title: format!("hand out a copy of `{shown}`"), edits })
}
