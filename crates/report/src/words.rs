//! The phrases that text, annotations and pages share, so that one thing is said in one way.

use std::borrow::Cow;

use facts::{Files, GuardVote, Span};

/// Where a span begins, as `path:line`.
pub(crate) fn at(files: &Files, span: Span) -> String {
    format!("{}:{}", files.get(span.file).path, files.start(span).line)
}

/// A number of things: `1 error`, `2 errors`.
pub(crate) fn many(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// What the side number `idx` of `n` is called.
pub(crate) fn side(idx: usize, n: usize) -> String {
    match (idx, n) {
        (0, 1) => "how it gets there".to_owned(),
        (0, 2) => "one side".to_owned(),
        (1, 2) => "the other side".to_owned(),
        _ => format!("side {}", idx + 1),
    }
}

/// The locks that are held, in words.
pub(crate) fn locks(names: &[String]) -> String {
    if names.is_empty() {
        return "no lock".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("holding {}", quoted.join(", "))
}

/// What the other accesses do, in words.
pub(crate) fn vote(vote: &GuardVote) -> String {
    let all = vote.with + vote.without;
    format!("`{}` is held at {} of {all} accesses", vote.lock, vote.with)
}

/// Text that changes nothing but what it shows: tabs become four spaces, and characters that steer a terminal or
/// turn the direction of writing become `�`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\n' => shown.push(' '),
            '\r' => {}
            c if steers(c) => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_cannot_reach_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\tc\r\nd\u{202e}"), "a\u{fffd}[31mb    c d\u{fffd}");
        assert!(matches!(visible("naïve 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn sides_are_named_by_how_many_there_are() {
        assert_eq!(
            [side(0, 1), side(0, 2), side(1, 2), side(1, 3)],
            ["how it gets there", "one side", "the other side", "side 2"]
        );
    }

    #[test]
    fn locks_are_quoted() {
        assert_eq!(locks(&[]), "no lock");
        assert_eq!(locks(&["_a".into(), "_b".into()]), "holding `_a`, `_b`");
    }
}
