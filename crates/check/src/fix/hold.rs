//! Holds a lock around what has to be one step.

use facts::{Edit, Fix, Lock, LockKind, Safety};

use super::guard::{self, Guard};
use super::region::Region;
use super::sheet::{Sheet, Wrap};
use crate::analysis::{Analysis, Stretch, is_write};
use crate::body::{Op, Val};
use crate::summary::{Access, Touch};

/// A lock over more lines than this may be held too long: a person should look.
const SAFE_LINES_MAX: usize = 20;

/// Holds a lock around all statements of a stretch: the one that other accesses hold (safe), else the general lock of
/// the object or module, else a new one for the place, which its other accesses then hold too (unsafe).
///
/// `what` ends the title: "the update".
#[must_use]
pub fn hold_lock(analysis: &Analysis<'_>, access: &Access, stretch: Stretch, what: &str) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(stretch.func))?;
    let stretch = Stretch { from: from(analysis, access).min(stretch.from), ..stretch };
    let region = Region::of(analysis, sheet, stretch)?;
    if let Some(fix) = others_hold(analysis, sheet, access, stretch) {
        return Some(fix);
    }
    let fits = |guard: &Guard| {
        !region.takes(analysis, sheet, guard.place)
            && guard::suits(analysis, guard, access.place)
            && !guard.may_nest(analysis, region.func, region.nodes(analysis, sheet))
            && (guard.is_async || region.is_short(analysis, sheet))
    };
    if let Some(guard) = guard::voted(analysis, access).filter(fits) {
        let edit = sheet.wrap(&Wrap::under(region.first, region.last, head(&guard, &guard.text)))?;
        let n_lines = sheet.slice(sheet.start(region.first), sheet.end(region.last)).lines().count();
        let safety = if n_lines > SAFE_LINES_MAX { Safety::Unsafe } else { Safety::Safe };
        return Some(Fix { safety, title: title(&guard, what), edits: vec![edit] });
    }
    let guard = any(analysis, sheet, access, fits)?;
    let mut edits = everywhere(analysis, sheet, access, Some(region), &guard)?;
    edits.extend(guard.edits.iter().cloned());
    Some(Fix { safety: Safety::Unsafe, title: title(&guard, what), edits })
}

/// Holds a lock that is known for another reason than the vote.
#[must_use]
pub fn hold_known(analysis: &Analysis<'_>, access: &Access, stretch: Stretch, lock: Lock, what: &str) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(stretch.func))?;
    let guard = guard::of_lock(analysis, access, lock)?;
    let short = |region: &Region| guard.is_async || region.is_short(analysis, sheet);
    // What else the function does to the place without the lock goes in as well.
    let region = Region::of(analysis, sheet, stretch)?;
    let bare = |other: &&Access| {
        other.func == access.func && !analysis.summaries.locks_at(other.func, other.act).holds(lock.place)
    };
    let all = analysis.accesses(access.place).filter(bare).try_fold(region, |region, other| {
        let own = Region::of(analysis, sheet, Stretch { func: other.func, from: other.val, to: other.act })?;
        region.joined(sheet, own)
    });
    let region = all.filter(short).unwrap_or(region);
    let fits =
        short(&region) && !region.takes(analysis, sheet, guard.place) && guard::suits(analysis, &guard, access.place);
    let edit =
        fits.then(|| sheet.wrap(&Wrap::under(region.first, region.last, head(&guard, &guard.text)))).flatten()?;
    Some(Fix { safety: Safety::Safe, title: title(&guard, what), edits: vec![edit] })
}

/// Where the stretch holds a lock already, the other side lacks it.
fn others_hold(analysis: &Analysis<'_>, sheet: Sheet<'_>, access: &Access, stretch: Stretch) -> Option<Fix> {
    let held = analysis.locks_over(stretch);
    let lock = held.iter().find(|lock| lock.kind == LockKind::Thread)?;
    let guard = guard::of_lock(analysis, access, lock)?;
    let edits = everywhere(analysis, sheet, access, None, &guard)?;
    let title = format!("hold `{}` where the other side is", guard.text);
    (!edits.is_empty()).then_some(Fix { safety: Safety::Unsafe, title, edits })
}

/// A lock for a place for which no lock is known.
pub(super) fn any(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    access: &Access,
    fits: impl Fn(&Guard) -> bool,
) -> Option<Guard> {
    // One that is known but cannot be held here is not made up for by a second one.
    if analysis.guard(access.place).is_some() {
        return None;
    }
    let seen = guard::seen(analysis, access).filter(&fits);
    let general = || guard::general(analysis, access).filter(&fits);
    let shared = || guard::shared(analysis, sheet, access).filter(&fits);
    let own = || guard::own(analysis, sheet, access).filter(&fits);
    seen.or_else(general).or_else(shared).or_else(own)
}

pub(super) fn title(guard: &Guard, what: &str) -> String {
    let new = if guard.edits.is_empty() { "" } else { "a new " };
    format!("hold {new}`{}` around {what}", guard.text)
}

fn head(guard: &Guard, text: &str) -> String {
    let is_async = if guard.is_async { "async " } else { "" };
    format!("{is_async}with {text}:")
}

/// A place that is used in more places than this is rather given a lock by hand.
const SITES_MAX: usize = 64;

/// Wraps the region and every other access to the place that has to wait for it; without a region, all others.
pub(super) fn everywhere(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    access: &Access,
    region: Option<Region>,
    guard: &Guard,
) -> Option<Vec<Edit>> {
    let mut regions: Vec<(Region, String)> = region.into_iter().map(|region| (region, guard.text.clone())).collect();
    let is_other = |other: &&Access| !other.owned && (region.is_some() || !std::ptr::eq(*other, access));
    if analysis.accesses(access.place).filter(is_other).count() > SITES_MAX {
        return None;
    }
    for other in analysis.accesses(access.place).filter(is_other) {
        let Some((found, text)) = other_region(analysis, sheet, other, guard)? else { continue };
        regions.push((found, text));
    }
    let wraps = merge(sheet, regions)?.into_iter().map(|(region, text)| {
        let fits = region.is_short(analysis, sheet)
            && !region.takes(analysis, sheet, guard.place)
            && !guard.may_nest(analysis, region.func, region.nodes(analysis, sheet));
        fits.then(|| sheet.wrap(&Wrap::under(region.first, region.last, head(guard, &text)))).flatten()
    });
    wraps.collect()
}

/// Where another access needs the lock; `Some(None)` where it needs none, `None` where it cannot have it.
#[allow(clippy::option_option)] // three answers
fn other_region(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    other: &Access,
    guard: &Guard,
) -> Option<Option<(Region, String)>> {
    let writes = is_write(other);
    let copies = other.touch == Touch::Snapshot && !analysis.runtime.snapshots_are_atomic();
    let bare = !analysis.runtime.container_steps_are_atomic()
        && analysis.container(other.place).is_some()
        && !matches!(other.touch, Touch::Load | Touch::Store(_) | Touch::Escape | Touch::Member);
    let steps = other.touch == Touch::Iterate || copies || bare;
    let aliased = other.aliased && !writes;
    let holds = guard.place.is_some_and(|lock| analysis.summaries.locks_at(other.func, other.act).holds(lock));
    if holds || aliased || analysis.is_import_code(other.func) || !(writes || steps) {
        return Some(None);
    }
    let refused = if writes { None } else { Some(None) };
    if analysis.project.file_of(other.func) != sheet.file {
        return refused;
    }
    let stretch = Stretch { func: other.func, from: from(analysis, other), to: other.act };
    let region = Region::of(analysis, sheet, stretch)
        .filter(|region| region.is_short(analysis, sheet) && !region.takes(analysis, sheet, guard.place));
    let text = guard.written_at(analysis, other);
    match region.zip(text) {
        Some(found) => Some(Some(found)),
        None => refused,
    }
}

/// Where an access begins: with the first read, if it writes back what it has read.
fn from(analysis: &Analysis<'_>, access: &Access) -> Val {
    let first = access.val.min(access.act);
    let body = analysis.body(access.func);
    let value = match (access.touch, body.op(access.act)) {
        (Touch::Update(read), op) => value_of(op).unwrap_or(read),
        (Touch::ItemUpdate, Op::StoreItem { value, .. }) => value,
        _ => return first,
    };
    let slot = analysis.summaries.slot(access.place);
    let mut earliest = first;
    let mut work = vec![(value, 0)];
    while let Some((at, depth)) = work.pop() {
        match body.op(at) {
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..)
                if analysis.types.slots_of(analysis.project, access.func, at).contains(&slot) =>
            {
                earliest = earliest.min(at);
            }
            _ if depth > DEPTH_MAX => {}
            Op::Local(local) => {
                let stores = body.reaching(local, at).into_iter().filter_map(|store| value_of(body.op(store)));
                work.extend(stores.map(|value| (value, depth + 1)));
            }
            _ => body.operands(at, |operand| work.push((operand, depth + 1))),
        }
    }
    earliest
}

/// How far a value is followed to the reads that it was computed from.
const DEPTH_MAX: usize = 8;

fn value_of(op: Op) -> Option<Val> {
    match op {
        Op::StoreLocal { value, .. }
        | Op::StoreGlobal { value, .. }
        | Op::StoreAttr { value, .. }
        | Op::StoreCaptured { value, .. } => Some(value),
        _ => None,
    }
}

/// Joins regions that overlap or follow one another; `None` where one of them would need two locks or lies in a nested function.
fn merge(sheet: Sheet<'_>, regions: Vec<(Region, String)>) -> Option<Vec<(Region, String)>> {
    let mut merged: Vec<(Region, String)> = Vec::new();
    for (mut region, text) in regions {
        let meets = |region: Region, other: &(Region, String)| {
            region.overlaps(sheet, other.0) || other.1 == text && region.is_next_to(sheet, other.0)
        };
        while let Some(idx) = merged.iter().position(|other| meets(region, other)) {
            let (other, same) = merged.swap_remove(idx);
            if same != text {
                return None;
            }
            region = region.joined(sheet, other)?;
        }
        merged.push((region, text));
    }
    Some(merged)
}
