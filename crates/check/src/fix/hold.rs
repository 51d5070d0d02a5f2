//! Holds a lock around what has to be one step.

use facts::{Edit, Fix, Safety};

use super::guard::{self, Guard};
use super::region::Region;
use super::sheet::{Sheet, Wrap};
use crate::analysis::{Analysis, Stretch, is_write};
use crate::summary::{Access, Touch};

/// Holds a lock around all statements of a stretch: the one that other accesses hold (safe), else the general lock of
/// the object or module, else a new one for the place, which its other accesses then hold too (unsafe).
///
/// `what` ends the title: "the update".
#[must_use]
pub fn hold_lock(analysis: &Analysis<'_>, access: &Access, stretch: Stretch, what: &str) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(stretch.func))?;
    let region = Region::of(analysis, sheet, stretch)?;
    let fits = |guard: &Guard| {
        !region.takes(analysis, sheet, guard.place)
            && guard::suits(analysis, guard, access.place)
            && (guard.is_async || region.is_short(analysis, sheet))
    };
    if let Some(guard) = guard::voted(analysis, access).filter(fits) {
        let edit = sheet.wrap(&Wrap::under(region.first, region.last, head(&guard, &guard.text)))?;
        return Some(Fix { safety: Safety::Safe, title: title(&guard, what), edits: vec![edit] });
    }
    let guard = any(analysis, sheet, access, fits)?;
    let mut edits = everywhere(analysis, sheet, access, Some(region), &guard)?;
    edits.extend(guard.edits.iter().cloned());
    Some(Fix { safety: Safety::Unsafe, title: title(&guard, what), edits })
}

/// A lock for a place for which no lock is known.
pub(super) fn any(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    access: &Access,
    fits: impl Fn(&Guard) -> bool,
) -> Option<Guard> {
    if guard::is_on_loop(analysis, access.place) {
        return None;
    }
    let seen = guard::seen(analysis, access).filter(&fits);
    let general = || guard::general(analysis, access).filter(&fits);
    let own = || guard::own(analysis, sheet, access).filter(&fits);
    seen.or_else(general).or_else(own)
}

pub(super) fn title(guard: &Guard, what: &str) -> String {
    let new = if guard.edits.is_empty() { "" } else { "a new " };
    format!("hold {new}`{}` around {what}", guard.text)
}

fn head(guard: &Guard, text: &str) -> String {
    let is_async = if guard.is_async { "async " } else { "" };
    format!("{is_async}with {text}:")
}

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
    for other in analysis.accesses(access.place).filter(is_other) {
        let Some((found, text)) = other_region(analysis, sheet, other, guard)? else { continue };
        regions.push((found, text));
    }
    let wraps = merge(sheet, regions)?.into_iter().map(|(region, text)| {
        let fits = region.is_short(analysis, sheet) && !region.takes(analysis, sheet, guard.place);
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
    let steps = matches!(other.touch, Touch::Iterate | Touch::Snapshot);
    let holds = guard.place.is_some_and(|lock| analysis.summaries.locks_at(other.func, other.act).holds(lock));
    if holds || analysis.is_import_code(other.func) || !(writes || steps) {
        return Some(None);
    }
    let refused = if writes { None } else { Some(None) };
    if analysis.project.file_of(other.func) != sheet.file {
        return refused;
    }
    let stretch = Stretch { func: other.func, from: from(other), to: other.act };
    let region = Region::of(analysis, sheet, stretch)
        .filter(|region| region.is_short(analysis, sheet) && !region.takes(analysis, sheet, guard.place));
    let text = guard.written_at(analysis, other);
    match region.zip(text) {
        Some(found) => Some(Some(found)),
        None => refused,
    }
}

fn from(access: &Access) -> crate::body::Val {
    match access.touch {
        Touch::Update(read) => read.min(access.val),
        _ => access.val.min(access.act),
    }
}

/// Joins regions that overlap; `None` where one of them would need two locks or lies in a nested function.
fn merge(sheet: Sheet<'_>, regions: Vec<(Region, String)>) -> Option<Vec<(Region, String)>> {
    let mut merged: Vec<(Region, String)> = Vec::new();
    for (mut region, text) in regions {
        while let Some(idx) = merged.iter().position(|(other, _)| region.overlaps(sheet, *other)) {
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
