//! The promises of the page: self-contained, escaped, complete.

use super::*;
use crate::sample::Sample;

fn shown(sample: &Sample) -> String {
    render(&sample.page())
}

fn has(html: &str, parts: &[&str]) {
    for part in parts {
        assert!(html.contains(part), "no {part} in\n{html}");
    }
}

/// The part of a page that shows the finding number `n`.
fn card_of(html: &str, n: usize) -> &str {
    let start = html.find(&format!("<article id=\"f{n}\"")).expect("the card is there");
    let end = html[start..].find("</article>").expect("it is closed");
    &html[start..start + end]
}

#[test]
fn the_page_asks_for_nothing_outside_itself() {
    let html = shown(&Sample::new());
    for loader in ["http:", "https:", "//cdn", " src=", "<link", "@import", "url("] {
        assert!(!html.contains(loader), "{loader}");
    }
    has(&html, &["default-src 'none'"]);
}

#[test]
fn text_of_the_program_never_becomes_markup() {
    let html = shown(&Sample::new());
    assert!(!html.contains("<b>&\""), "source");
    assert!(!html.contains("a <b>,"), "message");
    has(card_of(&html, 5), &["100%, really: a &lt;b&gt;, &quot;c&quot;"]);
    has(card_of(&html, 2), &["cache.get(&quot;&lt;b&gt;&amp;&quot;)"]);
}

#[test]
fn a_card_tells_both_sides_and_the_rest() {
    let html = shown(&Sample::new());
    has(
        card_of(&html, 1),
        &[
            "<h3><code>self._hits</code> is read and written back without a lock</h3>",
            "app&#x2f;cache.py:10:9</span> in <code>Cache.get</code>",
            "<mark class=\"primary\">self._hits += 1</mark>",
            "<span class=\"label\">two threads are started here</span>",
            "<h4>one side</h4>\n<p>a thread that runs <code>run</code></p>",
            "<h4>the other side</h4>\n<p>any caller of <code>Cache</code></p>",
            "<span class=\"lock\">no lock</span>",
            "<span class=\"lock held\">holding <code>self._lock</code></span>",
            "<dd><code>run</code> is started twice and never joined</dd>",
            "<code>self._lock</code> is held at 5 of 6 accesses",
            "<li>both write 1: one update is lost</li>",
            "<h4>fix (safe)</h4>\n<p>hold <code>_lock</code> around the update</p>",
            "<div class=\"removed\"><code>-        self._hits += 1</code></div>",
            "<div class=\"added\"><code>+            self._hits += 1</code></div>",
        ],
    );
}

#[test]
fn a_card_leaves_out_what_is_absent() {
    let html = shown(&Sample::new());
    let card = card_of(&html, 4);
    for part in ["class=\"sides\"", "<dl>", "a bad order", "fix (", " in <code>", "about"] {
        assert!(!card.contains(part), "{part} in\n{card}");
    }
}

#[test]
fn figures_rules_and_filters_stand_at_the_top() {
    let html = shown(&Sample::new());
    has(
        &html,
        &[
            "<title>raceproof: 5 findings in 2 files</title>",
            "<li class=\"error\"><b>3</b>errors</li>",
            "<li class=\"warning\"><b>1</b>warnings</li>",
            "<td class=\"n\">2<td>shared state is read and written back without a lock</tr>",
            "<option>check-then-act</option>",
            "2 fixable with raceproof fix (1 more with --unsafe)",
            "in 0.12 s",
        ],
    );
    assert_eq!(html.matches("<article").count(), 5);
    assert_eq!(html.matches("<tr data-rule").count(), 5);
}

#[test]
fn a_page_without_findings_says_so() {
    let html = shown(&Sample::empty());
    has(&html, &["no findings in 1 file", "<title>raceproof: 0 findings in 1 file</title>"]);
    assert!(!html.contains("<article") && !html.contains("id=\"filters\""));
}

#[test]
fn only_closed_quotes_are_code() {
    assert_eq!(with_code("a `b` c"), "a <code>b</code> c");
    assert_eq!(with_code("a `<b"), "a `&lt;b");
    assert_eq!(with_code("`a` `b`"), "<code>a</code> <code>b</code>");
}
