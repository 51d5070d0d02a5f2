//! A pool with a limit in the place of a thread for every item.
//!
//! Only threads of which nothing is asked but to start and to be waited for: a daemon, a name, a timeout are more than
//! a pool can give.

use facts::{Edit, Fix, Safety};

use super::call::reporter;
use super::sheet::Sheet;
use super::{import, local};
use crate::analysis::Analysis;
use crate::analysis::spawned::{Made, Spawned};
use crate::body::{Args, BlockKind, Body, Display, LocalId, Op, Val};
use crate::name::Name;
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::types::{Slot, Std, Type};

/// How many threads a new pool has.
const WORKERS_MAX: u32 = 32;

const POOL: &str = "_pool";

/// Hands the work to a pool: `Thread(target=f, args=(x,))` -> `_pool.submit(f, x)`. Where the threads were joined, the
/// results are waited for; where nobody waited, errors are logged.
#[must_use]
pub fn pooled(analysis: &Analysis<'_>, made: &Spawned) -> Option<Fix> {
    let func = made.func;
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let body = analysis.body(func);
    let [target] = made.targets[..] else { return None };
    if made.made != Made::Thread || made.class.is_some() || runs_on(analysis.body(target)) || reenters(analysis, made) {
        return None;
    }
    let job = job(analysis, func, made.call)?;
    let node = body.node(made.call);
    let statement = sheet.outline.at(node.start)?;
    let mut work = Work { analysis, sheet, func, made: statement, edits: Vec::new(), n_starts: 0, n_joins: 0 };
    // A comment between the arguments has no place in the new call.
    if sheet.slice(node.start, node.end).contains('#') {
        return None;
    }
    work.uses(made.call)?;
    let mut edits = std::mem::take(&mut work.edits);
    if work.n_starts != 1 {
        return None;
    }
    edits.extend(pool(analysis, sheet, func, statement)?);
    if work.n_joins > 0 {
        edits.push(sheet.edit(node.start, node.end, job));
    } else {
        let (name, helper) = reporter(analysis, sheet, func, statement, false)?;
        edits.extend(helper);
        let text = format!("{job}.add_done_callback({name})");
        edits.push(match sheet.outline.statements[statement].kind {
            // `thread = Thread(...)`, of which nothing is left to do.
            Kind::Assign(Some((from, _))) if from == node.start => sheet.edit(sheet.start(statement), node.end, text),
            Kind::Expression => sheet.edit(node.start, sheet.end(statement), text),
            _ => return None,
        });
    }
    let title = format!("hand the work to a pool of at most {WORKERS_MAX} threads");
    Some(Fix { safety: Safety::Unsafe, title, edits })
}

/// Does it go round and round until it is told to stop? It would keep a worker of the pool from all others.
fn runs_on(body: &Body) -> bool {
    body.blocks.iter().any(|block| match block.kind {
        BlockKind::Loop(test) => matches!(body.op(test), Op::Truth(true) | Op::Scalar),
        _ => false,
    })
}

/// Do the jobs start jobs of the same kind? A full pool would wait for itself.
fn reenters(analysis: &Analysis<'_>, made: &Spawned) -> bool {
    let nodes = |func: FuncId| 0..super::sheet::as_u32(analysis.body(func).nodes.len());
    made.targets.iter().any(|target| super::guard::reached(analysis, *target, nodes(*target)).contains(&made.func))
}

/// `Thread(target=f, args=(x, y))` -> `_pool.submit(f, x, y)`
fn job(analysis: &Analysis<'_>, func: FuncId, call: Val) -> Option<String> {
    let body = analysis.body(func);
    let Op::Call { args, .. } = body.op(call) else { return None };
    let text = |val: Val| analysis.files.text(analysis.span(func, val));
    let (mut target, mut given) = (None, String::new());
    for arg in body.args(args) {
        match (arg.name?.as_str(), body.op(arg.value)) {
            ("target", _) => target = Some(text(arg.value)),
            ("args", Op::Display(Display::Tuple | Display::List, parts)) => given = listed(body, parts, text)?,
            _ => return None,
        }
    }
    Some(format!("{POOL}.submit({}{given})", target?))
}

fn listed<'a>(body: &Body, parts: Args, text: impl Fn(Val) -> &'a str) -> Option<String> {
    let parts = body.args(parts).iter().map(|part| (!part.starred).then(|| format!(", {}", text(part.value))));
    parts.collect()
}

/// What is done with the threads.
struct Work<'a> {
    analysis: &'a Analysis<'a>,
    sheet: Sheet<'a>,
    func: FuncId,
    /// The statement that makes the threads.
    made: usize,
    edits: Vec<Edit>,
    n_starts: u32,
    n_joins: u32,
}

impl Work<'_> {
    fn body(&self) -> &Body {
        self.analysis.body(self.func)
    }

    fn user(&self, val: Val) -> Option<Val> {
        self.analysis.summaries.consumer(self.func, val)
    }

    /// The new thread: started at once, kept in a local, or collected in a list.
    fn uses(&mut self, call: Val) -> Option<()> {
        let user = self.user(call)?;
        match self.body().op(user) {
            Op::Attr { name, .. } if name == "start" => {
                let start = self.user(user)?;
                let statement = self.sheet.outline.at(self.body().node(start).start)?;
                let bare = self.sheet.start(statement) == self.body().node(start).start
                    && self.sheet.end(statement) == self.body().node(start).end;
                self.n_starts += 1;
                bare.then_some(())
            }
            Op::StoreLocal { local, .. } => self.local(local, call),
            Op::Comprehension(Display::List, _) => match self.body().op(self.user(user)?) {
                Op::StoreLocal { local, .. } => self.list(local, None),
                _ => None,
            },
            _ => None,
        }
    }

    fn reads(&self, local: LocalId) -> Vec<Val> {
        let body = self.body();
        body.vals().filter(|val| matches!(body.op(*val), Op::Local(read) if read == local)).collect()
    }

    /// A local that holds the thread, or in a loop one after the other.
    fn local(&mut self, local: LocalId, call: Val) -> Option<()> {
        let mut lists = Vec::new();
        for store in self.body().stores[local.0 as usize].clone() {
            let Op::StoreLocal { value, .. } = self.body().op(store) else { return None };
            match self.body().op(value) {
                _ if value == call => {}
                Op::Next(_) => lists.push(value),
                _ => return None,
            }
        }
        if self.analysis.is_captured(self.func, local) {
            return None;
        }
        let mut list = None;
        for read in self.reads(local) {
            if let Some(found) = self.use_of(read)? {
                list = Some(found);
            }
        }
        match list {
            Some(list) => self.list(list, Some(local)),
            None => lists.is_empty().then_some(()),
        }
    }

    /// One use of a thread: started, joined without a timeout, or appended to the list that is given back.
    #[allow(clippy::option_option)] // three answers
    fn use_of(&mut self, read: Val) -> Option<Option<LocalId>> {
        let user = self.user(read)?;
        match self.body().op(user) {
            Op::Attr { name, .. } => {
                let call = self.user(user)?;
                let Op::Call { args, .. } = self.body().op(call) else { return None };
                let node = *self.body().node(call);
                let statement = self.sheet.outline.at(node.start)?;
                let bare = self.sheet.start(statement) == node.start && self.sheet.end(statement) == node.end;
                if args.len > 0 || !bare {
                    return None;
                }
                match name.as_str() {
                    "start" => {
                        self.n_starts += 1;
                        let dropped = self.dropped(statement)?;
                        self.follows(dropped).then_some(())?;
                        self.edits.push(self.sheet.without(dropped)?);
                    }
                    "join" => {
                        self.n_joins += 1;
                        self.edits.push(self.sheet.edit(node.end - 6, node.end, "result()"));
                        // `.join()`, not over several lines.
                        (self.sheet.slice(node.end - 6, node.end) == "join()").then_some(())?;
                    }
                    _ => return None,
                }
                Some(None)
            }
            Op::Call { func, .. } => match self.body().op(func) {
                Op::Attr { base, name } if name == "append" => match self.body().op(base) {
                    Op::Local(list) => Some(Some(list)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// What goes with a start: the statement, or the loop that holds nothing else.
    fn dropped(&self, statement: usize) -> Option<usize> {
        let outline = self.sheet.outline;
        let suite = &outline.suites[outline.statements[statement].suite];
        match suite.owner {
            Some(owner) if suite.statements.len() == 1 && outline.statements[owner].kind == Kind::For => {
                (outline.parts[owner].len() == 1).then_some(owner)
            }
            _ => Some(statement),
        }
    }

    /// Does the start follow where the threads are made, whatever happens, with nothing in between that the work may
    /// count on? The pool begins with the work at once.
    fn follows(&self, start: usize) -> bool {
        let outline = self.sheet.outline;
        let loops = |idx: &usize| *idx == self.made || outline.statements[*idx].kind == Kind::For;
        let suite = outline.statements[start].suite;
        let Some(made) =
            outline.around(self.made).take_while(loops).find(|idx| outline.statements[*idx].suite == suite)
        else {
            return false;
        };
        let (from, to) = (outline.statements[made].at + 1, outline.statements[start].at);
        let appends = |idx: &usize| {
            outline.statements[*idx].kind == Kind::Expression && self.sheet.statement(*idx).contains(".append(")
        };
        outline.suites[suite].statements.get(from..to).is_some_and(|between| between.iter().all(appends))
    }

    /// A local list of threads, which is gone through to start or join them. `item` names those that are done with.
    fn list(&mut self, list: LocalId, item: Option<LocalId>) -> Option<()> {
        if self.body().stores[list.0 as usize].len() != 1 || self.analysis.is_captured(self.func, list) {
            return None;
        }
        let mut done: Vec<LocalId> = item.into_iter().collect();
        for read in self.reads(list) {
            let user = self.user(read)?;
            match self.body().op(user) {
                Op::Attr { name, .. } if name == "append" && item.is_some() => {}
                Op::Iter { is_async: false, .. } => {
                    let next =
                        self.body().vals().find(|val| matches!(self.body().op(*val), Op::Next(of) if of == user))?;
                    let Op::StoreLocal { local, .. } = self.body().op(self.user(next)?) else { return None };
                    if done.contains(&local) {
                        continue;
                    }
                    done.push(local);
                    for read in self.reads(local) {
                        if self.use_of(read)?.is_some() {
                            return None;
                        }
                    }
                }
                _ => return None,
            }
        }
        (self.n_joins > 0).then_some(())
    }
}

/// What makes the pool, if the module has none yet from an earlier repair.
fn pool(analysis: &Analysis<'_>, sheet: Sheet<'_>, func: FuncId, statement: usize) -> Option<Vec<Edit>> {
    let module = analysis.project.module_of(func);
    let known = Slot::Global(module, Name::new(POOL));
    if analysis.types.slot(known).contains(&Type::Std(Std::Executor))
        && !analysis.body(func).locals.contains(&Name::new(POOL))
    {
        return Some(Vec::new());
    }
    local::free(analysis, func, [POOL.to_owned()])?;
    let top = super::call::definitions(sheet, statement)?;
    let class = import::member(analysis, sheet, module, "concurrent.futures", "ThreadPoolExecutor", sheet.start(top))?;
    let line = format!("{POOL} = {}(max_workers={WORKERS_MAX})", class.text);
    let mut edits = vec![sheet.definition_above(top, &line)?];
    edits.extend(class.edit);
    Some(edits)
}
