//! An entry of a dict that is made where it is missing and then looked up again: kept in a local instead, so that
//! nobody can take it away in between.

use facts::{Edit, Fix, Safety};

use super::sheet::Sheet;
use super::{local, step};
use crate::analysis::{Analysis, Condition, is_write, removes};
use crate::body::{Op, Val};
use crate::project::FuncId;
use crate::source::outline::Kind;
use crate::summary::{Access, Touch};
use crate::types::Container;

/// `if k not in d: ...; d[k] = v`, and then `d[k]`.
pub(super) struct Entry {
    /// The `if`.
    tested: usize,
    /// The statement that stores the entry.
    stored: usize,
    /// First and last byte of what is stored.
    value: (u32, u32),
    dict: String,
    key: String,
    /// The local that is to hold it.
    pub(super) name: String,
    /// `d[k]` after the `if`.
    lookups: Vec<Val>,
    func: FuncId,
    /// The test, as it is written.
    test: Val,
}

impl Entry {
    /// Finds the entry that `store` makes under `condition`. None where nothing looks it up again, or where nobody
    /// takes entries away.
    pub(super) fn of(analysis: &Analysis<'_>, sheet: Sheet<'_>, store: &Access, condition: &Condition) -> Option<Self> {
        let (func, body, outline) = (store.func, analysis.body(store.func), sheet.outline);
        let text = |val: Val| analysis.files.text(analysis.span(func, val));
        let Op::StoreItem { base, key, update: false, .. } = body.op(store.act) else { return None };
        let (dict, key) = (text(base), text(key));
        let stored = outline.at(body.node(store.act).start)?;
        let suite = outline.statements[stored].suite;
        let tested = outline.suites[suite].owner?;
        let Kind::Assign(Some(value)) = outline.statements[stored].kind else { return None };
        let alone = outline.statements[tested].kind == Kind::If
            && outline.parts[tested].len() == 1
            && sheet.test(suite)? == format!("{key} not in {dict}")
            && sheet.starts_line(sheet.start(tested));
        let plain = local::is_plain(dict) && local::is_plain(key);
        let is_dict = analysis.container(store.place) == Some(Container::Dict);
        if !alone || !plain || !is_dict || !is_taken(analysis, store) {
            return None;
        }
        let after = sheet.end(tested)..sheet.end(*outline.suites[outline.statements[tested].suite].statements.last()?);
        let mut lookups = Vec::new();
        for other in analysis.accesses(store.place).filter(|other| other.func == func && other.act != store.act) {
            let at = body.node(other.act).start;
            let same =
                matches!(body.op(other.act), Op::Item { base, key: of } if text(base) == dict && text(of) == key);
            if same && other.touch == Touch::ItemLoad && after.contains(&at) {
                lookups.push(other.act);
            } else if same || is_write(other) {
                return None;
            }
        }
        let renamed = body.vals().any(|val| match body.op(val) {
            Op::StoreLocal { local, .. } => {
                let name = body.locals[local.0 as usize];
                body.node(val).start > sheet.start(tested) && key.split(['.', '(', ',', ' ']).any(|part| name == part)
            }
            _ => false,
        });
        let name = step::item_name(analysis, func, analysis.summaries.slot(store.place))?;
        let (dict, key) = (dict.to_owned(), key.to_owned());
        (!lookups.is_empty() && !renamed).then_some(Self {
            tested,
            stored,
            value,
            dict,
            key,
            name,
            lookups,
            func,
            test: condition.at,
        })
    }

    /// `entry = d.get(k)`
    pub(super) fn read(&self) -> String {
        format!("{} = {}.get({})", self.name, self.dict, self.key)
    }

    /// `if entry is None:`
    pub(super) fn head(&self) -> String {
        format!("if {} is None:", self.name)
    }

    /// The edits around the statements that make the entry: it is read before the test, and the local used afterwards.
    pub(super) fn around(&self, analysis: &Analysis<'_>, sheet: Sheet<'_>) -> Option<Vec<Edit>> {
        let test = analysis.body(self.func).node(self.test);
        let mut edits = local::replaced(analysis, sheet, self.func, &self.lookups, &self.name);
        edits.push(sheet.line_before(self.tested, &self.read())?);
        edits.push(sheet.edit(test.start, test.end, format!("{} is None", self.name)));
        Some(edits)
    }
}

/// Does anybody take entries away?
fn is_taken(analysis: &Analysis<'_>, store: &Access) -> bool {
    let takes = |access: &Access| removes(access) || matches!(access.touch, Touch::Store(_) | Touch::Delete);
    analysis.accesses(store.place).any(|access| !access.owned && takes(access))
}

/// Uses what the dict gave or took in one step: `entry = d.setdefault(k, v)`, and then `entry`.
pub(super) fn kept(analysis: &Analysis<'_>, sheet: Sheet<'_>, lookup: &Access, condition: &Condition) -> Option<Fix> {
    let stores = |store: &&Access| {
        store.func == lookup.func
            && store.touch == Touch::ItemStore
            && condition.at < store.act
            && store.act < lookup.act
    };
    let store = analysis.accesses(lookup.place).find(stores)?;
    let entry = Entry::of(analysis, sheet, store, condition)?;
    let mut edits = entry.around(analysis, sheet)?;
    let call = format!("{}.setdefault({}, ", entry.dict, entry.key);
    edits.push(sheet.edit(sheet.start(entry.stored), entry.value.0, format!("{} = {call}", entry.name)));
    edits.push(sheet.edit(entry.value.1, entry.value.1, ")"));
    let title = format!("use what `{}.setdefault` gives, not what may be there later", entry.dict);
    Some(Fix { safety: Safety::Safe, title, edits })
}
