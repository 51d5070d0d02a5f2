//! Applies fixes to texts, in memory, and takes back those that do harm.
//!
//! A fix is kept only if the result parses, checking it again no longer shows the finding, and shows no new one. Many
//! fixes are tried at once; when that fails, those under suspicion are tried one at a time. No file is touched here.

use std::collections::{BTreeMap, BTreeSet};

use facts::{Edit, FileId, Files, Finding, Fingerprint, Fix, Safety, Span};

/// Checks of the whole project that one repair may take. Reaching it leaves the rest as it was, and says so.
const CHECKS_MAX: usize = 400;

/// Places at which one defect may have to be repaired before it falls silent.
const STEPS_MAX: usize = 12;

/// What may be repaired, and how the result is judged.
pub struct Terms<'a> {
    /// Checks texts again: all that a user would see.
    pub check: &'a dyn Fn(&Files) -> Vec<Finding>,
    /// Is the finding one that the user wants repaired?
    pub wanted: &'a dyn Fn(&Finding) -> bool,
    /// Why a file cannot be written back, if so.
    pub locked: &'a dyn Fn(FileId) -> Option<String>,
    /// Also fixes that a person should look at?
    pub allow_unsafe: bool,
}

/// A fix that was applied.
#[derive(Debug)]
pub struct Fixed {
    /// In which text.
    pub file: FileId,
    /// Which rule was breached.
    pub rule: &'static str,
    /// In which function; may be empty.
    pub symbol: String,
    /// What it was about.
    pub place: String,
    /// What was done.
    pub title: String,
}

impl Fixed {
    /// Is it the fix of this finding?
    #[must_use]
    pub fn is_of(&self, finding: &Finding) -> bool {
        let theirs = (finding.rule.name, finding.span.file, &finding.symbol, &finding.place);
        (self.rule, self.file, &self.symbol, &self.place) == theirs
    }
}

/// A fix that was not applied.
#[derive(Debug)]
pub struct Refused {
    /// In which text.
    pub file: FileId,
    /// The line of the finding in the text as it is now.
    pub line: u32,
    /// Which rule is breached.
    pub rule: &'static str,
    /// Why the fix was refused.
    pub reason: String,
}

/// What came of it.
pub struct Outcome {
    /// The texts as they are now, under the same names.
    pub files: Files,
    /// What was done, in the order in which it was done.
    pub fixed: Vec<Fixed>,
    /// What was not, and why.
    pub refused: Vec<Refused>,
    /// The findings that are left, refused ones among them.
    pub left: Vec<Finding>,
}

/// Tells findings apart across a repair, which moves lines and renumbers fingerprints: rule, path, class and place.
type Key = (&'static str, FileId, String, String);

fn key(finding: &Finding) -> Key {
    let class = finding.symbol.rsplit_once('.').map_or("", |(class, _)| class);
    (finding.rule.name, finding.span.file, class.to_owned(), finding.place.clone())
}

fn count(findings: &[Finding]) -> BTreeMap<Key, usize> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(key(finding)).or_insert(0) += 1;
    }
    counts
}

struct State {
    files: Files,
    findings: Vec<Finding>,
}

struct Repair<'a> {
    terms: &'a Terms<'a>,
    state: State,
    fixed: Vec<Fixed>,
    refused: BTreeMap<Fingerprint, String>,
    /// To be tried alone.
    suspects: BTreeSet<Key>,
    checks: usize,
}

/// Repairs what can be repaired.
#[must_use]
pub fn repair(files: Files, findings: Vec<Finding>, terms: &Terms<'_>) -> Outcome {
    let mut repair = Repair {
        terms,
        state: State { files, findings },
        fixed: Vec::new(),
        refused: BTreeMap::new(),
        suspects: BTreeSet::new(),
        checks: 0,
    };
    repair.refuse_locked();
    while repair.round() {}
    repair.finish()
}

impl Repair<'_> {
    fn allows<'f>(&self, finding: &'f Finding) -> Option<&'f Fix> {
        let fix = finding.fix.as_ref()?;
        let is_allowed = (fix.safety == Safety::Safe || self.terms.allow_unsafe)
            && (self.terms.wanted)(finding)
            && !fix.edits.is_empty();
        is_allowed.then_some(fix)
    }

    fn refuse_locked(&mut self) {
        for finding in &self.state.findings {
            let Some(fix) = self.allows(finding) else {
                continue;
            };
            let reason = fix.edits.iter().find_map(|edit| (self.terms.locked)(edit.span.file));
            if let Some(reason) = reason {
                self.refused.insert(finding.fingerprint, reason);
            }
        }
    }

    fn candidates(&self) -> impl Iterator<Item = &Finding> {
        self.state
            .findings
            .iter()
            .filter(|finding| self.allows(finding).is_some() && !self.refused.contains_key(&finding.fingerprint))
    }

    /// Tries one lot of fixes; says whether there may be more to do.
    fn round(&mut self) -> bool {
        let many = self.candidates().filter(|finding| !self.suspects.contains(&key(finding)));
        let batch: Vec<Finding> = disjoint(many).into_iter().cloned().collect();
        if batch.is_empty() {
            let Some(one) = self.candidates().next().cloned() else {
                return false;
            };
            return self.alone(&one);
        }
        if self.checks >= CHECKS_MAX {
            return self.give_up();
        }
        match self.attempt(&self.state, &batch) {
            Ok(next) => {
                self.checks += 1;
                let before = count(&self.state.findings);
                let blamed = blame(&before, &count(&next.findings), &batch);
                if blamed.is_empty() {
                    self.accept(next, &batch);
                } else {
                    self.suspects.extend(blamed);
                }
            }
            Err(files) => {
                let suspicious = batch.iter().filter(|finding| touches(finding, &files));
                self.suspects.extend(suspicious.map(key));
            }
        }
        true
    }

    /// Tries one finding's fix, and the fixes of what is then shown about the same place, up to silence.
    fn alone(&mut self, finding: &Finding) -> bool {
        let before = count(&self.state.findings);
        let mut steps = vec![finding.clone()];
        let mut reached: Option<State> = None;
        let reason = loop {
            if self.checks >= CHECKS_MAX {
                return self.give_up();
            }
            self.checks += 1;
            let from = reached.as_ref().unwrap_or(&self.state);
            let step = std::slice::from_ref(&steps[steps.len() - 1]);
            let Ok(next) = self.attempt(from, step) else {
                break "the result would not parse".to_owned();
            };
            let after = count(&next.findings);
            if let Some(new) = next.findings.iter().find(|finding| is_new(finding, &before, &after)) {
                let line = next.files.start(new.span).line;
                break format!("it would make a new finding, [{}] in line {line}", new.rule.name);
            }
            if after.get(&key(finding)).unwrap_or(&0) < &before[&key(finding)] {
                self.accept(next, &steps);
                return true;
            }
            let more = next.findings.iter().find(|other| {
                key(other) == key(finding)
                    && self.allows(other).is_some()
                    && steps.iter().all(|step| {
                        // One finding stands for all sites of its place in a function: fewer sites are progress.
                        step.fingerprint != other.fingerprint || other.related.len() < step.related.len()
                    })
            });
            match more.cloned() {
                Some(more) if steps.len() < STEPS_MAX => steps.push(more),
                _ => break "it would not silence the finding".to_owned(),
            }
            reached = Some(next);
        };
        self.refused.insert(finding.fingerprint, reason);
        true
    }

    /// The state after these fixes, checked again; `Err` names the texts that would not parse.
    fn attempt(&self, from: &State, batch: &[Finding]) -> Result<State, Vec<FileId>> {
        let mut edits: BTreeMap<FileId, Vec<Edit>> = BTreeMap::new();
        for fix in batch.iter().filter_map(|finding| finding.fix.as_ref()) {
            for edit in &fix.edits {
                edits.entry(edit.span.file).or_default().push(edit.clone());
            }
        }
        let mut broken = Vec::new();
        let mut files = Files::default();
        for (id, file) in from.files.iter() {
            let text = match edits.get(&id) {
                None => file.text.clone(),
                Some(edits) => match apply(&file.text, edits) {
                    Some(text) if check::syntax_error(&text).is_none() => text,
                    _ => {
                        broken.push(id);
                        continue;
                    }
                },
            };
            files.add(&file.path, text);
        }
        if !broken.is_empty() {
            return Err(broken);
        }
        let findings = (self.terms.check)(&files);
        Ok(State { files, findings })
    }

    fn accept(&mut self, next: State, batch: &[Finding]) {
        for finding in batch {
            let title = finding.fix.as_ref().map(|fix| fix.title.clone());
            self.fixed.push(Fixed {
                file: finding.span.file,
                rule: finding.rule.name,
                symbol: finding.symbol.clone(),
                place: finding.place.clone(),
                title: title.unwrap_or_default(),
            });
        }
        self.state = next;
    }

    fn give_up(&mut self) -> bool {
        let rest: Vec<Fingerprint> = self.candidates().map(|finding| finding.fingerprint).collect();
        for fingerprint in rest {
            let reason = format!("not tried: the limit of {CHECKS_MAX} checks is reached; run `fix` again");
            self.refused.insert(fingerprint, reason);
        }
        false
    }

    fn finish(self) -> Outcome {
        let State { files, findings } = self.state;
        let refused = findings
            .iter()
            .filter_map(|finding| {
                let reason = self.refused.get(&finding.fingerprint)?;
                Some(Refused {
                    file: finding.span.file,
                    line: files.start(finding.span).line,
                    rule: finding.rule.name,
                    reason: reason.clone(),
                })
            })
            .collect();
        Outcome { files, fixed: self.fixed, refused, left: findings }
    }
}

fn touches(finding: &Finding, files: &[FileId]) -> bool {
    let edits = finding.fix.iter().flat_map(|fix| &fix.edits);
    edits.into_iter().any(|edit| files.contains(&edit.span.file))
}

fn is_new(finding: &Finding, before: &BTreeMap<Key, usize>, after: &BTreeMap<Key, usize>) -> bool {
    let key = key(finding);
    after.get(&key) > before.get(&key)
}

/// Which of the findings whose fixes were applied have not fallen silent, or may have caused a new finding.
fn blame(before: &BTreeMap<Key, usize>, after: &BTreeMap<Key, usize>, batch: &[Finding]) -> BTreeSet<Key> {
    let tried = count(batch);
    let mut blamed: BTreeSet<Key> = tried
        .iter()
        .filter(|(key, tried)| after.get(key).unwrap_or(&0) + **tried > *before.get(key).unwrap_or(&0))
        .map(|(key, _)| key.clone())
        .collect();
    let new: Vec<FileId> =
        after.iter().filter(|(key, n)| before.get(key).unwrap_or(&0) < n).map(|((_, file, ..), _)| *file).collect();
    let near: Vec<Key> = batch.iter().filter(|finding| touches(finding, &new)).map(key).collect();
    if near.is_empty() && !new.is_empty() {
        blamed.extend(batch.iter().map(key));
    }
    blamed.extend(near);
    blamed
}

/// The findings whose edits can be applied together, first come first served. Equal edits, such as the same import,
/// go together.
fn disjoint<'f>(findings: impl Iterator<Item = &'f Finding>) -> Vec<&'f Finding> {
    let mut taken: Vec<&Edit> = Vec::new();
    let mut chosen = Vec::new();
    for finding in findings {
        let edits = finding.fix.as_ref().map_or(&[][..], |fix| &fix.edits);
        let fits = |edit: &Edit| taken.iter().all(|other| *other == edit || !clash(edit.span, other.span));
        if edits.iter().all(fits) {
            taken.extend(edits);
            chosen.push(finding);
        }
    }
    chosen
}

/// Do two edits touch the same text, or is it open which of them comes first?
fn clash(a: Span, b: Span) -> bool {
    let is_insert = a.start == a.end || b.start == b.end;
    let apart = if is_insert { a.end < b.start || b.end < a.start } else { a.end <= b.start || b.end <= a.start };
    a.file == b.file && !apart
}

/// The text with the edits applied, each once; `None` if they overlap or do not fit. What is inserted takes the line
/// endings of the text.
#[must_use]
pub fn apply(text: &str, edits: &[Edit]) -> Option<String> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort();
    edits.dedup();
    let has_crlf = text.split_once('\n').is_some_and(|(line, _)| line.ends_with('\r'));
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        result.push_str(text.get(at..edit.span.start as usize)?);
        if has_crlf {
            result.push_str(&edit.text.replace("\r\n", "\n").replace('\n', "\r\n"));
        } else {
            result.push_str(&edit.text);
        }
        at = edit.span.end as usize;
    }
    result.push_str(text.get(at..)?);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{RuleInfo, Severity};

    static RULE: RuleInfo = RuleInfo {
        name: "no-bad",
        code: "RP999",
        severity: Severity::Error,
        summary: "the word is there",
        docs: "",
        on_by_default: true,
    };

    /// Finds every line that begins with `bad`, and offers the text after `->` on it as the repair.
    fn find(files: &Files) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, file) in files.iter() {
            for (at, _) in file.text.match_indices("bad") {
                if at > 0 && file.text.as_bytes()[at - 1] != b'\n' {
                    continue;
                }
                let line = file.text[at..].lines().next().unwrap_or("");
                let span = Span::new(id, at as u32, at as u32 + 3);
                let text = line.split("-> ").nth(1).unwrap_or("good").to_owned();
                let fix = Fix {
                    safety: if text == "risky" { Safety::Unsafe } else { Safety::Safe },
                    title: "replace it".to_owned(),
                    edits: vec![Edit { span, text }],
                };
                let mut finding = Finding::new(&RULE, span, "bad").with_fix(Some(fix));
                finding.fingerprint = Fingerprint(found.len() as u64);
                found.push(finding.on(format!("line {}", file.position(span.start).line)));
            }
        }
        found
    }

    fn repaired(text: &str, allow_unsafe: bool) -> (String, Outcome) {
        let mut files = Files::default();
        let id = files.add("a.py", text);
        let terms = Terms { check: &find, wanted: &|_| true, locked: &|_| None, allow_unsafe };
        let findings = find(&files);
        let outcome = repair(files, findings, &terms);
        (outcome.files.get(id).text.clone(), outcome)
    }

    #[test]
    fn fixes_are_applied_together_and_those_that_do_not_help_are_taken_back() {
        let (text, outcome) = repaired("bad\nbad # -> bad_still\nbad\n", false);
        assert_eq!(text, "good\nbad # -> bad_still\ngood\n");
        assert_eq!(outcome.fixed.len(), 2);
        assert_eq!(outcome.refused.len(), 1);
        assert_eq!(outcome.refused[0].reason, "it would not silence the finding");
        assert_eq!(outcome.left.len(), 1);
    }

    #[test]
    fn a_fix_that_does_not_parse_takes_no_other_with_it() {
        let (text, outcome) = repaired("bad # -> (\nbad\n", false);
        assert_eq!(text, "bad # -> (\ngood\n");
        assert_eq!(outcome.refused[0].reason, "the result would not parse");
    }

    #[test]
    fn unsafe_fixes_need_to_be_asked_for() {
        assert_eq!(repaired("bad # -> risky\n", false).0, "bad # -> risky\n");
        assert_eq!(repaired("bad # -> risky\n", true).0, "risky # -> risky\n");
    }

    #[test]
    fn equal_insertions_are_made_once_and_line_endings_are_kept() {
        let id = FileId(0);
        let import = Edit { span: Span::new(id, 0, 0), text: "import threading\n".to_owned() };
        let name = Edit { span: Span::new(id, 0, 1), text: "y".to_owned() };
        let text = apply("x\r\n", &[import.clone(), name, import]);
        assert_eq!(text.as_deref(), Some("import threading\r\ny\r\n"));
    }

    #[test]
    fn edits_that_overlap_are_refused() {
        let id = FileId(0);
        let edit = |start, end| Edit { span: Span::new(id, start, end), text: String::new() };
        assert_eq!(apply("abcdef", &[edit(0, 3), edit(2, 4)]), None);
        assert!(clash(edit(0, 3).span, edit(2, 4).span));
        assert!(!clash(edit(0, 3).span, edit(3, 4).span));
        assert!(clash(edit(3, 3).span, edit(3, 4).span), "the order is open");
    }
}
