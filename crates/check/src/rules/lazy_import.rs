//! See `lazy_import.md` beside this file: it is the documentation and the test.

use facts::{Action, Confidence, Finding, RuleInfo, Severity};

use super::Rule;
use crate::analysis::{Analysis, LazyImport, Stretch, Test, is_write};
use crate::body::Op;
use crate::name::Name;
use crate::summary::{Access, Touch};
use crate::types::Slot;

pub(super) static RULE: Rule = Rule {
    info: RuleInfo {
        name: "lazy-import",
        code: "RP107",
        severity: Severity::Warning,
        summary: "several threads may run the first import of a cyclic module at once",
        docs: include_str!("lazy_import.md"),
        on_by_default: true,
    },
    check,
};

fn check(analysis: &Analysis<'_>, found: &mut Vec<Finding>) {
    let lazy = analysis.lazy_imports();
    if !lazy.is_empty() {
        cycles(analysis, &lazy, found);
    }
    for place in analysis.places() {
        if matches!(analysis.summaries.slot(place), Slot::Attr(..)) {
            found.extend(analysis.accesses(place).filter_map(|store| proxy(analysis, store)).next());
        }
    }
}

/// Two functions that can run at once enter one cycle at two different modules.
fn cycles(analysis: &Analysis<'_>, lazy: &[LazyImport], found: &mut Vec<Finding>) {
    let imports = analysis.imports();
    let entering: Vec<_> = lazy
        .iter()
        .filter_map(|import| {
            let cycle = imports.cycle_of(import.module)?;
            let inside = imports.is_in(analysis.project.module_of(import.func), cycle);
            (!inside && !imports.is_loaded_elsewhere(cycle)).then_some((import, cycle))
        })
        .collect();
    for (import, cycle) in &entering {
        let others = entering.iter().filter(|(other, same)| same == cycle && other.module != import.module);
        let best = others
            .filter_map(|(other, _)| Some((other, analysis.overlap_of(import.func, other.func)?.2)))
            .max_by_key(|(other, confidence)| (*confidence, std::cmp::Reverse(other.func)));
        let Some((other, confidence)) = best else { continue };
        let (name, theirs) = (module_name(analysis, import), module_name(analysis, other));
        let message =
            format!("`{name}` is first imported here, while another thread may import `{theirs}` of the same cycle");
        found.push(
            Finding::new(&RULE.info, analysis.span(import.func, import.at), message)
                .on(name)
                .within(analysis.symbol(import.func))
                .also(analysis.span(other.func, other.at), "the other way into the cycle")
                .confidence(confidence),
        );
    }
}

fn module_name(analysis: &Analysis<'_>, import: &LazyImport) -> String {
    analysis.project.names[import.module.0 as usize].to_string()
}

/// A lazy proxy of a module that keeps its own note of what is loaded.
fn proxy(analysis: &Analysis<'_>, store: &Access) -> Option<Finding> {
    let Touch::Store(value) = store.touch else { return None };
    let body = analysis.body(store.func);
    let loads = matches!(body.op(body.origin(value)), Op::Call { .. })
        && analysis.loads_by_name(store.func, body.origin(value));
    let class = analysis.project.class_of(store.func)?;
    let is_proxy = analysis.project.method(class, Name::new("__getattr__")).is_some();
    if !loads || !is_proxy || store.owned || analysis.is_test(store.func) {
        return None;
    }
    let slot = analysis.summaries.slot(store.place);
    let test = analysis
        .conditions(store.func, store.act)
        .into_iter()
        .find(|test| test.slot == slot && test.test == Test::Absent)?;
    let stretch = Stretch { func: store.func, from: test.read, to: store.act };
    // Two tests, the second under a lock, are in order.
    if !analysis.summaries.locks_at(store.func, store.act).is_empty() {
        return None;
    }
    let rival = analysis.rival(store.place, stretch, Action::Update, is_write)?;
    let name = analysis.place_name(store);
    let order = vec![
        format!("one thread finds `{name}` missing"),
        format!("another thread finds `{name}` missing too"),
        "both load the module".to_owned(),
    ];
    let evidence = analysis.evidence(stretch, analysis.doing(store), &rival, None, order);
    let finding = Finding::new(
        &RULE.info,
        analysis.span(store.func, store.act),
        format!("`{name}` is loaded on first use, by each thread that finds it missing"),
    );
    let finding = finding
        .on(name)
        .within(analysis.symbol(store.func))
        .also(analysis.span(store.func, test.at), "tested here without a lock");
    Some(finding.confidence(rival.confidence.min(Confidence::High)).because(evidence))
}
