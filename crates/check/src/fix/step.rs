//! Turns a test and an act into one step: one read into a local, `pop` with a default, `discard`, `get_nowait`.

use facts::{Edit, Fix, Safety};

use super::sheet::Sheet;
use super::{entry, hold, import, local};
use crate::analysis::{Analysis, Condition, Stretch, Test};
use crate::body::{BlockKind, Compare, Op, Val};
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::summary::{Access, Touch};
use crate::types::{Container, Slot, Std, Type};

/// Makes a test of a container and what follows from it one step of the container (safe), else holds a lock around
/// both.
#[must_use]
pub fn one_step(analysis: &Analysis<'_>, act: &Access, condition: &Condition, stretch: Stretch) -> Option<Fix> {
    let atomic = analysis.runtime.container_steps_are_atomic();
    let sheet = Sheet::of(analysis, analysis.project.file_of(act.func))?;
    let step = Step { analysis, sheet, act, condition };
    let short = || {
        atomic
            .then(|| step.alone().or_else(|| step.got()).or_else(|| step.kept()).or_else(|| step.take_from_queue()))
            .flatten()
    };
    let held = || hold::hold_lock(analysis, act, stretch, "the test and what follows");
    short().or_else(held).or_else(|| atomic.then(|| step.removed()).flatten())
}

/// Reads a tested name or attribute once, into a local, and uses the local.
#[must_use]
pub fn read_once(analysis: &Analysis<'_>, used: &Access, condition: &Condition, stretch: Stretch) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(used.func))?;
    let step = Step { analysis, sheet, act: used, condition };
    step.held_in_local().or_else(|| hold::hold_lock(analysis, used, stretch, "the test and the use"))
}

struct Step<'a> {
    analysis: &'a Analysis<'a>,
    sheet: Sheet<'a>,
    act: &'a Access,
    condition: &'a Condition,
}

impl Step<'_> {
    fn op(&self, val: Val) -> Op {
        self.analysis.body(self.act.func).op(val)
    }

    fn text(&self, val: Val) -> &str {
        self.analysis.files.text(self.analysis.span(self.act.func, val))
    }

    fn slot(&self) -> Slot {
        self.analysis.summaries.slot(self.act.place)
    }

    fn fix(title: String, edits: Vec<Edit>) -> Fix {
        Fix { safety: Safety::Safe, title, edits }
    }

    /// The `if` whose head is nothing but the test.
    fn tested(&self) -> Option<usize> {
        let node = self.analysis.body(self.act.func).node(self.condition.at);
        let statement = local::statement_of(self.sheet, node.start)?;
        let outline = self.sheet.outline;
        let part = *outline.parts[statement].first()?;
        let is_if =
            outline.statements[statement].kind == Kind::If && self.sheet.starts_line(self.sheet.start(statement));
        let test = self.sheet.test(part)?;
        (is_if && test == self.sheet.slice(node.start, node.end)).then_some(statement)
    }

    /// `if k not in d: d[k] = v`, `d[k]` -> `x = d.setdefault(k, v)`, `x`
    fn kept(&self) -> Option<Fix> {
        entry::kept(self.analysis, self.sheet, self.act, self.condition)
    }

    /// `if k in d: del d[k]` -> `d.pop(k, None)`
    fn alone(&self) -> Option<Fix> {
        let replaced = self.removal()?;
        let (outline, sheet) = (self.sheet.outline, self.sheet);
        let tested = self.tested()?;
        let [part] = outline.parts[tested][..] else { return None };
        let [only] = outline.suites[part].statements[..] else { return None };
        let act = outline.at(self.analysis.body(self.act.func).node(self.act.act).start)?;
        if only != act || sheet.slice(sheet.start(tested), sheet.end(tested)).contains('#') {
            return None;
        }
        let edit = sheet.edit(sheet.start(tested), sheet.end(tested), replaced.clone());
        Some(Self::fix(format!("remove it in one step: `{replaced}`"), vec![edit]))
    }

    /// `del d[k]` -> `d.pop(k, None)`, where the test has to stay.
    fn removed(&self) -> Option<Fix> {
        let replaced = self.removal()?;
        let statement = self.sheet.outline.at(self.analysis.body(self.act.func).node(self.act.act).start)?;
        let edit = self.sheet.edit(self.sheet.start(statement), self.sheet.end(statement), replaced.clone());
        Some(Self::fix(format!("do not fail where another was faster: `{replaced}`"), vec![edit]))
    }

    /// What removes the tested key, in one step, where nothing uses what is removed.
    fn removal(&self) -> Option<String> {
        let Test::HasKey(tested) = self.condition.test else { return None };
        let body = self.analysis.body(self.act.func);
        let node = body.node(self.act.act);
        let statement = self.sheet.outline.at(node.start)?;
        let container = self.analysis.container(self.act.place)?;
        let (name, key) = match (self.op(self.act.act), self.act.touch) {
            (Op::DelItem { base, key }, _) if container == Container::Dict => {
                let whole = self.sheet.statement(statement);
                let bare = whole.strip_prefix("del ").map(str::trim) == Some(self.sheet.slice(node.start, node.end));
                bare.then(|| (format!("{}.pop", self.text(base)), key))?
            }
            (Op::Call { func, args }, Touch::Method(name)) => {
                let discarded = self.sheet.statement(statement) == self.sheet.slice(node.start, node.end);
                let [key] = body.args(args) else { return None };
                let Op::Attr { base, .. } = self.op(func) else { return None };
                match (name.as_str(), container) {
                    ("pop", Container::Dict) if discarded => (format!("{}.pop", self.text(base)), key.value),
                    ("remove", Container::Set) if discarded => (format!("{}.discard", self.text(base)), key.value),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let text = self.text(key);
        if text != self.text(tested) || text.contains('\n') {
            return None;
        }
        Some(if container == Container::Dict { format!("{name}({text}, None)") } else { format!("{name}({text})") })
    }

    /// `if k in d: use(d[k])` -> `v = d.get(k)`, `if v is not None: use(v)`
    fn got(&self) -> Option<Fix> {
        let (analysis, sheet, func) = (self.analysis, self.sheet, self.act.func);
        let Test::HasKey(_) = self.condition.test else { return None };
        let Op::Compare { left, how, right } = self.op(self.condition.at) else { return None };
        let (key, container) = (self.text(left), self.text(right));
        if analysis.container(self.act.place)? != Container::Dict
            || !local::is_plain(key)
            || !local::is_plain(container)
        {
            return None;
        }
        let tested = self.tested()?;
        let bytes = self.governed(tested)?;
        let inside = |val: &Val| bytes.contains(&analysis.body(func).node(*val).start);
        let (mut loads, mut others) = (Vec::new(), Vec::new());
        let mut is_object = self.holds_objects();
        for other in analysis.accesses(self.act.place).filter(|other| other.func == func && inside(&other.act)) {
            match (other.touch, self.op(other.act)) {
                (Touch::ItemLoad, Op::Item { base, key: used })
                    if self.text(base) == container && self.text(used) == key =>
                {
                    loads.push(other.act);
                    is_object |= self.is_dereferenced(other.act);
                }
                (Touch::Load | Touch::Member | Touch::Len | Touch::Contains, _) => {}
                _ => others.push(other.act),
            }
        }
        // Once it is taken out or replaced, the entry is not what was read.
        if others.iter().any(|other| loads.last().is_some_and(|last| other < last)) {
            return None;
        }
        let renamed = analysis.body(func).vals().filter(inside).any(|val| match self.op(val) {
            Op::StoreLocal { local, .. } => {
                let stored = analysis.body(func).locals[local.0 as usize];
                key.split(['.', '(', ',', ' ']).any(|part| stored == part)
            }
            _ => false,
        });
        if loads.is_empty() || !is_object || renamed || self.is_renewed(bytes.clone()) {
            return None;
        }
        let name = item_name(self.analysis, self.act.func, self.slot())?;
        let test = if how == Compare::In { format!("{name} is not None") } else { format!("{name} is None") };
        let mut edits = local::replaced(analysis, sheet, func, &loads, &name);
        edits.extend(local::replaced(analysis, sheet, func, &[self.condition.at], &test));
        edits.push(sheet.line_before(tested, &format!("{name} = {container}.get({key})"))?);
        Some(Self::fix(format!("read it once, with `{container}.get({key})`"), edits))
    }

    /// Are the items objects, never None?
    fn holds_objects(&self) -> bool {
        let elements = self.analysis.types.elements(self.slot());
        !elements.is_empty() && !elements.contains(&Type::None)
    }

    /// Is an attribute, an item or the call of the value used, so that it cannot be None?
    fn is_dereferenced(&self, val: Val) -> bool {
        let user = self.analysis.summaries.consumer(self.act.func, val);
        user.is_some_and(|user| match self.op(user) {
            Op::Attr { base, .. } | Op::Item { base, .. } | Op::StoreItem { base, .. } | Op::StoreAttr { base, .. } => {
                base == val
            }
            Op::Call { func, .. } => func == val,
            _ => false,
        })
    }

    /// The bytes in which the tested statement decides: its body, or what follows its early exit.
    fn governed(&self, tested: usize) -> Option<std::ops::Range<u32>> {
        let outline = self.sheet.outline;
        let act = self.analysis.body(self.act.func).node(self.act.act).start;
        let end = self.sheet.end(tested);
        if act < end {
            return Some(self.sheet.start(tested)..end);
        }
        let suite = &outline.suites[outline.statements[tested].suite];
        Some(self.sheet.start(tested)..self.sheet.end(*suite.statements.last()?))
    }

    /// `if jobs.empty(): break`, `job = jobs.get()` -> `try: job = jobs.get_nowait()`, `except queue.Empty: break`
    fn take_from_queue(&self) -> Option<Fix> {
        let (analysis, sheet, outline) = (self.analysis, self.sheet, self.sheet.outline);
        let is_queue = |of: &Type| analysis.types.std_of(analysis.project, *of) == Some(Std::Queue);
        if !analysis.types_of(self.act.place).iter().any(is_queue) {
            return None;
        }
        let tested = self.tested()?;
        let [part] = outline.parts[tested][..] else { return None };
        let [exit] = outline.suites[part].statements[..] else { return None };
        let suite = &outline.suites[outline.statements[tested].suite];
        let next = *suite.statements.get(outline.statements[tested].at + 1)?;
        let call = analysis.body(self.act.func).node(self.act.act);
        let ours = outline.at(call.start) == Some(next);
        if outline.statements[exit].kind != Kind::Leave || !ours || !sheet.stands_alone(next, next) {
            return None;
        }
        let receiver = self.text(self.act.val);
        if sheet.test(part)? != format!("{receiver}.empty()")
            || sheet.slice(call.start, call.end) != format!("{receiver}.get()")
        {
            return None;
        }
        let module = analysis.project.module_of(self.act.func);
        let empty = import::member(analysis, sheet, module, "queue", "Empty", u32::MAX)?;
        let (indent, unit, eol) = (sheet.indent(sheet.start(tested)), sheet.unit(exit), sheet.eol());
        let taken = sheet.statement(next).replace(&format!("{receiver}.get()"), &format!("{receiver}.get_nowait()"));
        let lines = [
            "try:".to_owned(),
            format!("{unit}{taken}"),
            format!("except {}:", empty.text),
            format!("{unit}{}", sheet.statement(exit)),
        ];
        let text = lines.join(&format!("{eol}{indent}"));
        let mut edits = vec![sheet.edit(sheet.start(tested), sheet.end(next), text)];
        edits.extend(empty.edit);
        Some(Self::fix(format!("take the next item or find none, with `{receiver}.get_nowait()`"), edits))
    }

    /// `if self.x is None: return`, `self.x.f()` -> `x = self.x`, `if x is None: return`, `x.f()`
    fn held_in_local(&self) -> Option<Fix> {
        let (analysis, sheet, func) = (self.analysis, self.sheet, self.act.func);
        let body = analysis.body(func);
        let at = body.node(self.condition.at);
        let statement = local::statement_of(sheet, at.start)?;
        if !sheet.starts_line(sheet.start(statement)) {
            return None;
        }
        let text = sheet.slice(body.node(self.act.val).start, body.node(self.act.val).end);
        if !local::is_plain(text) {
            return None;
        }
        let mut bytes = self.governed(statement)?;
        // A new value from here on; what was read is still the old one up to there.
        let stores = local::stores(analysis, func, self.slot(), bytes.clone());
        if let Some(store) = stores.first() {
            let stored = sheet.outline.at(body.node(*store).start)?;
            bytes.end = sheet.start(stored);
        }
        if body.node(self.act.val).start >= bytes.end || self.crosses_loop() || self.is_renewed(bytes.clone()) {
            return None;
        }
        let mut reads: Vec<Val> = local::reads(analysis, func, self.slot(), bytes.clone());
        let again = self.tested_again(statement, &reads);
        reads.retain(|read| !again.iter().any(|bytes| bytes.contains(&body.node(*read).start)));
        if !reads.contains(&self.act.val) {
            return None;
        }
        let name = local::name_for(analysis, func, self.slot(), &["*_now", "*_here"])?;
        let mut edits = Vec::new();
        let line = match self.op(self.condition.at) {
            // hasattr(self, "x")
            Op::Call { func: target, args }
                if matches!(self.op(target), Op::Global(_)) && !body.args(args).is_empty() =>
            {
                let [object, attr] = body.args(args) else { return None };
                let absent = self.condition.test == Test::Absent;
                let positive = self.test_holds_where_present()?;
                let test = if positive && !absent { format!("{name} is not None") } else { return None };
                edits.extend(local::replaced(analysis, sheet, func, &[self.condition.at], &test));
                format!("{name} = getattr({}, {}, None)", self.text(object.value), self.text(attr.value))
            }
            _ => format!("{name} = {text}"),
        };
        edits.extend(local::replaced(analysis, sheet, func, &reads, &name));
        edits.push(sheet.line_before(statement, &line)?);
        Some(Self::fix(format!("read `{text}` once, into a local"), edits))
    }

    /// Is the test itself true where the value is there (no `not` around it)?
    fn test_holds_where_present(&self) -> Option<bool> {
        let body = analysis_body(self);
        let (_, block) = body.enclosing(self.act.act).find(|(_, block)| match block.kind {
            BlockKind::Then(test) | BlockKind::Else(test) => test == self.condition.at,
            _ => false,
        })?;
        Some(matches!(block.kind, BlockKind::Then(_)))
    }

    /// Statements inside that test the place anew: they mean the value that is there by then.
    fn tested_again(&self, statement: usize, reads: &[Val]) -> Vec<std::ops::Range<u32>> {
        let (outline, body) = (self.sheet.outline, analysis_body(self));
        let head = |idx: usize| outline.suites[outline.parts[idx][0]].head_end;
        let tests = |idx: &usize| {
            let bytes = self.sheet.start(*idx)..head(*idx);
            reads.iter().any(|read| bytes.contains(&body.node(*read).start))
        };
        let found = (0..outline.statements.len()).filter(|idx| {
            *idx != statement && matches!(outline.statements[*idx].kind, Kind::If | Kind::While) && tests(idx)
        });
        found.map(|idx| self.sheet.start(idx)..self.sheet.end(idx)).collect()
    }

    /// Can code that runs between the test and the act store a new value itself?
    fn is_renewed(&self, bytes: std::ops::Range<u32>) -> bool {
        let body = analysis_body(self);
        let between = self.condition.at.0 + 1..self.act.act.0;
        let between = between.filter(|idx| bytes.contains(&body.node(Val(*idx)).start));
        let (first, last) = (between.clone().min().unwrap_or(0), between.max().map_or(0, |last| last + 1));
        let called = super::guard::reached(self.analysis, self.act.func, first..last);
        self.analysis
            .accesses(self.act.place)
            .any(|other| crate::analysis::is_write(other) && called.contains(&other.func))
    }

    /// Is the use in a loop that the test is not in? Then it is tested once and used many times.
    fn crosses_loop(&self) -> bool {
        let body = analysis_body(self);
        body.enclosing(self.act.act)
            .any(|(id, block)| matches!(block.kind, BlockKind::Loop(_)) && !body.holds(id, self.condition.at))
    }
}

/// A name for one item of a container: `_connections` -> `connection`.
pub(super) fn item_name(analysis: &Analysis<'_>, func: FuncId, slot: Slot) -> Option<String> {
    let stem = super::guard::stem(super::guard::slot_name(analysis, slot).as_str());
    let stem = stem.strip_prefix("by_").unwrap_or(&stem).to_owned();
    let singular = match (stem.strip_suffix("ies"), stem.strip_suffix("ses"), stem.strip_suffix('s')) {
        (Some(stem), ..) => format!("{stem}y"),
        (_, Some(stem), _) => format!("{stem}s"),
        (_, _, Some(stem)) if !stem.ends_with('s') && stem.len() > 2 => stem.to_owned(),
        _ => "found".to_owned(),
    };
    local::free(analysis, func, [singular, "found".to_owned(), "known".to_owned(), "entry".to_owned()])
}

fn analysis_body<'a>(step: &Step<'a>) -> &'a crate::body::Body {
    step.analysis.body(step.act.func)
}
