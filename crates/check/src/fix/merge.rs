//! Two locked blocks become one, with what stands between them.

use facts::{Fix, Safety};

use super::region::Region;
use super::sheet::{Sheet, Wrap};
use crate::analysis::{Analysis, Stretch};
use crate::body::Val;
use crate::project::FuncId;
use crate::source::outline::Kind;

/// Holds the lock from the first block to the end of the second. `read` is in the first, `second` enters the second.
#[must_use]
pub fn merge_blocks(analysis: &Analysis<'_>, func: FuncId, read: Val, second: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(func))?;
    let (outline, body) = (sheet.outline, analysis.body(func));
    let first_with =
        outline.around(outline.at(body.node(read).start)?).find(|idx| outline.statements[*idx].kind == Kind::With)?;
    let second_with = outline.at(body.node(second).start)?;
    let head = |idx: usize| {
        let suite = &outline.suites[*outline.parts[idx].first()?];
        Some((sheet.slice(suite.head_start, suite.head_end), suite.head_end))
    };
    let (one, two) = (head(first_with)?, head(second_with)?);
    if one.0 != two.0 || !one.0.starts_with("with ") || outline.statements[second_with].kind != Kind::With {
        return None;
    }
    let region = Region::of(analysis, sheet, Stretch { func, from: read, to: second })?;
    let region = region.joined(sheet, Region { func, first: first_with, last: first_with })?;
    if region.first != first_with || !region.is_short(analysis, sheet) {
        return None;
    }
    let mut wrap = Wrap::under(region.first, region.last, one.0.to_owned());
    for with in [first_with, second_with] {
        let (text, head_end) = head(with)?;
        let alone = sheet.starts_line(sheet.start(with)) && sheet.stands_alone(with, with);
        let bare = sheet.slice(head_end, sheet.line_end(head_end)).trim().is_empty();
        if !alone || !bare || text.contains('\n') {
            return None;
        }
        wrap.cut.push((sheet.line_start(sheet.start(with)), sheet.line_end(head_end)));
        wrap.level.push((sheet.line_end(head_end), sheet.end(with)));
    }
    let title = "hold the lock over both blocks and what is between them".to_owned();
    Some(Fix { safety: Safety::Unsafe, title, edits: vec![sheet.wrap(&wrap)?] })
}
