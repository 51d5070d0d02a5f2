//! Statements that are to run under a lock, and whether they may.

use std::ops::Range;

use facts::PlaceId;

use super::guard;
use super::sheet::Sheet;
use crate::analysis::{Analysis, Stretch};
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::types::Std;

/// A run of statements of one suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) func: FuncId,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Region {
    /// The smallest run of statements that holds a stretch.
    pub(super) fn of(analysis: &Analysis<'_>, sheet: Sheet<'_>, stretch: Stretch) -> Option<Self> {
        let body = analysis.body(stretch.func);
        let (from, to) = (body.node(stretch.from).start, body.node(stretch.to).start);
        let (first, last) = sheet.outline.run(from.min(to), to.max(from))?;
        let is_compound = |idx: usize| matches!(sheet.outline.statements[idx].kind, Kind::Function | Kind::Class);
        (!is_compound(first) && !is_compound(last)).then_some(Self { func: stretch.func, first, last })
    }

    pub(super) fn bytes(self, sheet: Sheet<'_>) -> Range<u32> {
        sheet.start(self.first)..sheet.end(self.last)
    }

    /// The nodes of the function that lie in it.
    pub(super) fn nodes(self, analysis: &Analysis<'_>, sheet: Sheet<'_>) -> Range<u32> {
        let bytes = self.bytes(sheet);
        let inside = |val: &Val| {
            let node = analysis.body(self.func).node(*val);
            bytes.contains(&node.start) && !matches!(node.op, Op::Param(_))
        };
        let vals = || analysis.body(self.func).vals();
        let first = vals().find(inside).map_or(0, |val| val.0);
        let last = vals().rev().find(inside).map_or(first, |val| val.0 + 1);
        first..last
    }

    /// May it run under a lock? Not if it waits there: for a coroutine, for whoever resumes a generator, for another
    /// thread, for time to pass; nor if it goes round and round.
    pub(super) fn is_short(self, analysis: &Analysis<'_>, sheet: Sheet<'_>) -> bool {
        let looped = (self.first == self.last && sheet.outline.statements[self.first].kind == Kind::While)
            || self.nodes(analysis, sheet).any(|idx| waits(analysis, self.func, Val(idx)));
        !looped
    }

    /// Could the lock be taken a second time in it?
    pub(super) fn takes(self, analysis: &Analysis<'_>, sheet: Sheet<'_>, lock: Option<PlaceId>) -> bool {
        lock.is_some_and(|lock| guard::is_taken_by(analysis, self.func, self.nodes(analysis, sheet), lock))
    }

    pub(super) fn overlaps(self, sheet: Sheet<'_>, other: Region) -> bool {
        let (one, two) = (self.bytes(sheet), other.bytes(sheet));
        one.start < two.end && two.start < one.end
    }

    /// Does one follow the other directly, in one suite?
    pub(super) fn is_next_to(self, sheet: Sheet<'_>, other: Region) -> bool {
        let at = |idx: usize| sheet.outline.statements[idx];
        let follows = |one: Region, two: Region| {
            at(one.last).suite == at(two.first).suite && at(one.last).at + 1 == at(two.first).at
        };
        self.func == other.func && (follows(self, other) || follows(other, self))
    }

    /// The smallest region around both, if they are in one function.
    pub(super) fn joined(self, sheet: Sheet<'_>, other: Region) -> Option<Region> {
        if self.func != other.func {
            return None;
        }
        let (one, two) = (self.bytes(sheet), other.bytes(sheet));
        let (first, last) = sheet.outline.run(one.start.min(two.start), one.end.max(two.end) - 1)?;
        Some(Region { first, last, ..self })
    }
}

/// Does a node wait, or hand over to somebody else?
fn waits(analysis: &Analysis<'_>, func: FuncId, val: Val) -> bool {
    let body = analysis.body(func);
    match body.op(val) {
        Op::Await(_) | Op::Yield(_) => true,
        Op::Iter { is_async, .. } | Op::Enter { is_async, .. } => is_async,
        Op::Call { .. } => blocks(analysis, func, val),
        _ => false,
    }
}

fn blocks(analysis: &Analysis<'_>, func: FuncId, call: Val) -> bool {
    if let Some(name) = analysis.external_callee(func, call) {
        let name = name.as_str();
        return matches!(name, "time.sleep" | "input" | "concurrent.futures.wait" | "select.select")
            || ["subprocess.", "requests.", "urllib.request."].iter().any(|package| name.starts_with(package));
    }
    let Some((base, method)) = analysis.method_call(func, call) else { return false };
    let std = analysis.types.std(analysis.project, func, base);
    match method {
        "join" => matches!(std, Some(Std::Thread | Std::Timer | Std::Process | Std::Queue)),
        "result" => matches!(std, Some(Std::Future)),
        "get" | "put" => matches!(std, Some(Std::Queue)),
        "wait" => matches!(std, Some(Std::Event | Std::Barrier | Std::Condition | Std::Process)),
        "shutdown" => matches!(std, Some(Std::Executor)),
        _ => false,
    }
}
