//! How a class is made: slots of its own for each subclass, threads that start when the object is complete.

use facts::{Fix, Safety};

use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{LocalId, Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::source::outline::Kind;
use crate::types::{Std, Type};

/// Gives each subclass its own slot, and its own lock where the class has one for the slot. `store` makes the slot in
/// the body of the class.
#[must_use]
pub fn own_slot(analysis: &Analysis<'_>, class: ClassId, store: Val) -> Option<Fix> {
    let project = analysis.project;
    let info = project.class_info(class);
    let code = project.func_id(info.module, project.class(class).body);
    let sheet = Sheet::of(analysis, project.file_of(code))?;
    let body = analysis.body(code);
    if info.methods.contains_key(&Name::new("__init_subclass__")) {
        return None;
    }
    let mut last = sheet.outline.at(body.node(store).start)?;
    let suite = sheet.outline.statements[last].suite;
    let mut slots: Vec<(LocalId, String)> = Vec::new();
    for val in body.vals() {
        let Op::StoreLocal { local, value, .. } = body.op(val) else { continue };
        let is_lock = analysis.types.of(code, value).iter().any(|of| matches!(of, Type::Std(Std::Lock | Std::RLock)));
        let makes = matches!(body.op(value), Op::Call { .. });
        if val != store && !(is_lock && makes) {
            continue;
        }
        let at = sheet.outline.at(body.node(val).start)?;
        let node = body.node(value);
        if sheet.outline.statements[at].suite != suite || !analysis.types.of(code, value).iter().all(is_new) {
            return None;
        }
        last = last.max(at);
        slots.push((local, sheet.slice(node.start, node.end).to_owned()));
    }
    // Behind the other names of the class.
    let names = |idx: &&usize| matches!(sheet.outline.statements[**idx].kind, Kind::Assign(_) | Kind::Annotated);
    let after = &sheet.outline.suites[suite].statements[sheet.outline.statements[last].at + 1..];
    last = after.iter().take_while(names).last().copied().unwrap_or(last);
    let (unit, eol) = (sheet.unit(last), sheet.eol());
    let indent = sheet.indent(sheet.start(last));
    let mut lines = vec![
        String::new(),
        format!("{indent}def __init_subclass__(cls, **kwargs):"),
        format!("{indent}{unit}super().__init_subclass__(**kwargs)"),
    ];
    lines.extend(
        slots.iter().map(|(local, value)| format!("{indent}{unit}cls.{} = {value}", body.locals[local.0 as usize])),
    );
    let edit = sheet.line_after(last, &lines.join(eol))?;
    // `line_after` begins with the indentation, which an empty line has no use for.
    let text = edit.text.replacen(&format!("{eol}{indent}{eol}"), &format!("{eol}{eol}"), 1);
    let title = "give each subclass a slot of its own".to_owned();
    Some(Fix { safety: Safety::Unsafe, title, edits: vec![sheet.edit(edit.span.start, edit.span.end, text)] })
}

fn is_new(of: &Type) -> bool {
    matches!(of, Type::None | Type::Std(Std::Lock | Std::RLock))
}

/// Moves the start of a thread to the end of the constructor.
#[must_use]
pub fn start_last(analysis: &Analysis<'_>, init: FuncId, start: Val) -> Option<Fix> {
    let sheet = Sheet::of(analysis, analysis.project.file_of(init))?;
    let (outline, function) = (sheet.outline, analysis.project.function(init));
    let moved = outline.at(function.body.node(start).start)?;
    let suite = *outline.parts[outline.at(function.start)?].first()?;
    let last = *outline.suites[suite].statements.last()?;
    let statement = outline.statements[moved];
    let text = sheet.statement(moved);
    let alone = sheet.starts_line(statement.start) && sheet.stands_alone(moved, moved);
    if statement.suite != suite || statement.kind != Kind::Expression || moved == last || !alone || text.contains('\n')
    {
        return None;
    }
    if outline.statements[last].kind == Kind::Leave {
        return None;
    }
    let from = sheet.line_start(statement.start);
    let to = sheet.line_end(statement.end) + u32::try_from(sheet.eol().len()).ok()?;
    let line = match outline.parts[last].is_empty() {
        true => sheet.line_after(last, text)?,
        false => {
            let at = sheet.line_end(sheet.end(last));
            sheet.edit(at, at, format!("{}{}{text}", sheet.eol(), sheet.indent(statement.start)))
        }
    };
    let edits = vec![sheet.edit(from, to, ""), line];
    Some(Fix { safety: Safety::Unsafe, title: format!("`{text}` at the end of the constructor"), edits })
}
