//! What was seen in a run, with a column for each thread, for terminals and everything that shows plain lines.
//!
//! Time runs down. A cell that is too wide is cut: the whole text stands in the other formats.

use facts::{Evidence, Files, ObservedStep};

use crate::words::{self, visible};

/// Characters of a column.
const WIDTH_MAX: usize = 48;

/// The lines; none for evidence that was not seen in a run.
pub(crate) fn lines(files: &Files, evidence: &Evidence) -> Vec<String> {
    let Evidence::Observed { pattern, threads, steps, ending, remedy, schedule } = evidence else {
        return Vec::new();
    };
    let mut lines = vec![format!("seen: {pattern}, in {}", words::many(steps.len(), "step"))];
    let cells: Vec<String> = steps.iter().map(|step| cell(files, step)).collect();
    let widths: Vec<usize> = (0..threads.len())
        .map(|thread| {
            let own = steps.iter().zip(&cells).filter(|(step, _)| step.thread == thread).map(|(_, cell)| cell);
            let longest = own.chain([&threads[thread]]).map(|text| text.chars().count()).max();
            longest.unwrap_or(0).min(WIDTH_MAX)
        })
        .collect();
    let row = |text_of: &dyn Fn(usize) -> String| {
        let columns: Vec<String> = widths.iter().enumerate().map(|(idx, width)| fit(&text_of(idx), *width)).collect();
        format!("  {}", columns.join(" | ")).trim_end().to_owned()
    };
    lines.push(row(&|idx| visible(&threads[idx]).into_owned()));
    lines.push(row(&|idx| "-".repeat(widths[idx])));
    for (step, cell) in steps.iter().zip(&cells) {
        lines.push(row(&|idx| if idx == step.thread { cell.clone() } else { String::new() }));
    }
    lines.push(format!("in the end: {ending}"));
    if !remedy.is_empty() {
        lines.push(format!("would pass: {remedy}"));
    }
    lines.push(format!("schedule: {schedule}"));
    lines
}

/// What is in a cell; the pair that decides is marked.
fn cell(files: &Files, step: &ObservedStep) -> String {
    let mark = if step.decides { "* " } else { "" };
    let line = files.start(step.span).line;
    format!("{mark}{line}: {}", visible(&step.text))
}

/// The text, cut or filled up to the width.
fn fit(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{kept}…");
    }
    format!("{text}{}", " ".repeat(width - n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn threads_have_columns_and_time_runs_down() {
        let sample = Sample::observed();
        let shown = lines(&sample.files, &sample.findings[0].evidence).join("\n");
        assert_eq!(
            shown,
            "\
seen: lost update, in 4 steps
  T0 `Cache.get`                | T1 `<b>&`
  ----------------------------- | ----------------------------
  10: reads `self._hits` = 0    |
                                | * 10: reads `self._hits` = 0
                                | 10: writes `self._hits` = 1
  * 10: writes `self._hits` = 1 |
in the end: the invariant does not hold: hits is 1, expected 2
would pass: if line 10 of T0 runs before line 10 of T1
schedule: 1:T0@app/cache.py:get:write>T1"
        );
    }
}
