//! Findings as workflow commands of GitHub Actions, which shows them beside the lines of a pull request.
//!
//! GitHub shows ten errors and ten warnings of a step and drops the rest; nothing is left out here.

use facts::{Evidence, Files, Finding, Severity};

use crate::{Page, timeline, words};

pub(crate) fn render(page: &Page<'_>) -> String {
    page.findings.iter().map(|finding| command(page.files, finding)).collect()
}

fn command(files: &Files, finding: &Finding) -> String {
    let level = match finding.rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    let path = property(&files.get(finding.span.file).path);
    let (start, end) = (files.start(finding.span), files.end(finding.span));
    let title = property(&format!("{} ({})", finding.rule.name, finding.rule.code));
    let message = data(&message(files, finding));
    format!(
        "::{level} file={path},line={},endLine={},col={},title={title}::{message}\n",
        start.line, end.line, start.column
    )
}

/// The message with both sides, one a line.
fn message(files: &Files, finding: &Finding) -> String {
    let mut lines = vec![finding.message.clone()];
    match &finding.evidence {
        Evidence::Possible { paths, overlap, vote, .. } => {
            for (idx, path) in paths.iter().enumerate() {
                let side = words::side(idx, paths.len());
                let (at, locks) = (words::at(files, path.span), words::locks(&path.locks));
                lines.push(format!("{side}: {} {} ({at}), {locks}", path.thread, path.action));
            }
            if !overlap.is_empty() {
                lines.push(format!("may overlap: {overlap}"));
            }
            lines.extend(vote.as_ref().map(words::vote));
        }
        Evidence::Observed { .. } => lines.extend(timeline::lines(files, &finding.evidence)),
    }
    for related in &finding.related {
        lines.push(format!("{}: {}", words::at(files, related.span), related.message));
    }
    lines.push(format!("help: raceproof explain {}", finding.rule.name));
    lines.join("\n")
}

/// Escapes the text after `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use facts::{Files, RuleInfo, Span};

    use super::*;
    use crate::sample::{self, Sample};

    fn shown(rule: &'static RuleInfo, path: &str, message: &str) -> String {
        let mut files = Files::default();
        let file = files.add(path, "a = 1\nb = 2\n");
        command(&files, &Finding::new(rule, Span::new(file, 4, 11), message))
    }

    #[test]
    fn what_steers_a_command_is_escaped() {
        assert_eq!(
            shown(&sample::INCREMENT, "C:/a,b%.py", "100%: a, b\r\n::warning::c"),
            "::error file=C%3A/a%2Cb%25.py,line=1,endLine=2,col=5,title=unlocked-increment (RP201)\
             ::100%25: a, b%0D%0A::warning::c%0Ahelp: raceproof explain unlocked-increment\n"
        );
    }

    #[test]
    fn each_severity_has_its_command() {
        assert!(shown(&sample::CHECK, "a.py", "").starts_with("::warning file=a.py,"));
        assert!(shown(&sample::SHUTDOWN, "a.py", "").starts_with("::notice file=a.py,"));
    }

    #[test]
    fn a_finding_is_one_line_with_both_sides() {
        let sample = Sample::new();
        let shown = render(&sample.page());
        assert_eq!(shown.lines().count(), sample.findings.len());
        let first = shown.lines().next().unwrap();
        assert!(
            first.ends_with(
                "::`self._hits` is read and written back without a lock\
                 %0Aone side: a thread that runs `run` updates `self._hits` (app/cache.py:10), no lock\
                 %0Athe other side: any caller of `Cache` writes `self._hits` (app/cache.py:15), \
                 holding `self._lock`\
                 %0Amay overlap: `run` is started twice and never joined\
                 %0A`self._lock` is held at 5 of 6 accesses\
                 %0Aapp/cache.py:6: other accesses hold this lock\
                 %0Aapp/worker.py:12: two threads are started here\
                 %0Ahelp: raceproof explain unlocked-increment"
            ),
            "{first}"
        );
        assert_eq!(render(&Sample::empty().page()), "");
    }
}
