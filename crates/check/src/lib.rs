//! The static side: texts in, findings out. Reads no file, clock or environment, and never executes what it reads.
//!
//! ```text
//! Files -> source -> project -> types -> annotations -> contexts -> summary -> analysis -> fix -> rules -> suppress -> places -> findings
//! ```
//! Each stage is a function from the ones before it; none calls back.

use facts::{FileId, Files, Finding, Fingerprint, RuleInfo, Runtime, Span};

mod analysis;
mod annotations;
mod body;
mod claims;
mod contexts;
mod fix;
mod name;
mod parallel;
mod places;
mod project;
mod rules;
mod source;
mod summary;
mod suppress;
mod types;

/// What a run is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The runtime that the code is meant for.
    pub runtime: Runtime,
    /// Names of the rules to run; `None` runs those that are on by default.
    pub select: Option<Vec<&'static str>>,
    /// Classes (`Name` or `module.Name`) whose instances are shared between threads though nothing in the texts
    /// shows it.
    pub shared: Vec<String>,
}

impl Options {
    pub(crate) fn selects(&self, rule: &RuleInfo) -> bool {
        self.select.as_ref().map_or(rule.on_by_default, |names| names.contains(&rule.name))
    }
}

/// Checks a set of files. Never fails: a file that does not parse becomes a finding.
///
/// Findings are sorted by path, position and rule, and carry their fingerprints.
#[must_use]
pub fn check(files: &Files, options: &Options) -> Vec<Finding> {
    check_and_note(files, options).findings
}

/// What a check has found, and where it stopped looking.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// As [`check`] gives them.
    pub findings: Vec<Finding>,
    /// Limits of the analysis that were reached, in words. Where there are some, less was seen than there may be.
    pub limits: Vec<String>,
}

/// Like [`check`], and says which limits of the analysis were reached.
#[must_use]
pub fn check_and_note(files: &Files, options: &Options) -> Checked {
    check_with(rules::RULES, files, options)
}

fn check_with(rules: &[&rules::Rule], files: &Files, options: &Options) -> Checked {
    let modules = source::load(files);
    let mut found = unparsed(&modules);
    let project = project::build(files, modules);
    let (types, consumers) = parallel::both(|| types::infer(&project), || summary::consumers(&project));
    let annotations = annotations::read(files, &project, &types);
    let contexts = contexts::infer(&project, &types, &annotations, &options.shared);
    let summaries = summary::compute(&project, &types, &annotations, &contexts, consumers);
    let outlines = source::outline::Outlines::of(files);
    let analysis = analysis::Analysis {
        files,
        outlines: &outlines,
        project: &project,
        types: &types,
        contexts: &contexts,
        summaries: &summaries,
        runtime: options.runtime,
        known: analysis::Known::default(),
    };
    found.extend(places::leave_best(rules::run(rules, &analysis, options)));
    if options.selects(&rules::UNKNOWN_ANNOTATION) {
        found.extend(annotations.wrong.iter().map(|wrong| {
            Finding::new(&rules::UNKNOWN_ANNOTATION, wrong.span, wrong.message.clone())
                .confidence(facts::Confidence::High)
        }));
    }
    for finding in &mut found {
        // Tests start threads on purpose, and end before anyone else comes.
        if project.is_test[finding.span.file.0 as usize] && !finding.rule.code.starts_with("RP0") {
            finding.confidence = facts::Confidence::Low;
        }
    }
    let left = places::join_sites(suppress::apply(files, &project.modules, options, found));
    let checked = Checked { findings: finish(files, left), limits: analysis.limits() };
    parallel::drop_later((project, types, contexts, summaries));
    checked
}

fn unparsed(modules: &[body::Module]) -> Vec<Finding> {
    let failed = modules.iter().filter_map(|module| module.error.as_ref().map(|error| (module.file, error)));
    failed
        .map(|(file, (message, start, end))| {
            Finding::new(&rules::SYNTAX_ERROR, Span::new(file, *start, *end), message.clone())
                .confidence(facts::Confidence::High)
        })
        .collect()
}

/// Sorts and numbers findings.
fn finish(files: &Files, mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.span.start, finding.span.end, finding.rule.code);
        let path = |finding: &Finding| &files.get(finding.span.file).path;
        path(a).cmp(path(b)).then_with(|| key(a).cmp(&key(b))).then_with(|| a.message.cmp(&b.message))
    });
    let mut seen: std::collections::HashMap<Fingerprint, u32> = std::collections::HashMap::new();
    for finding in &mut found {
        let path = &files.get(finding.span.file).path;
        let parts = [finding.rule.name, path, &finding.symbol, &finding.place];
        let count = seen.entry(Fingerprint::of(&parts)).or_default();
        let ordinal = count.to_string();
        *count += 1;
        finding.fingerprint = Fingerprint::of(&[parts[0], parts[1], parts[2], parts[3], &ordinal]);
    }
    found
}

/// All rules, sorted by code.
pub fn rules() -> impl Iterator<Item = &'static RuleInfo> {
    rules::ABOUT_THE_RUN.into_iter().chain(rules::RULES.iter().map(|rule| &rule.info))
}

/// The finding for a file whose text could not be had (`reason`: lower case, no full stop). `file` has an empty text.
#[must_use]
pub fn unreadable(files: &Files, file: FileId, reason: &str) -> Finding {
    let mut finding =
        Finding::new(&rules::SYNTAX_ERROR, Span::new(file, 0, 0), reason).confidence(facts::Confidence::High);
    finding.fingerprint = Fingerprint::of(&[rules::SYNTAX_ERROR.name, &files.get(file).path, reason]);
    finding
}

/// Why `text` does not parse as Python; `None` if it does.
#[must_use]
pub fn syntax_error(text: &str) -> Option<String> {
    source::syntax_error(text)
}
