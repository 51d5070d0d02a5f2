//! Whole programs with a defect, and the same programs repaired: `tests/corpus/*.md`.

use crate::document::{self, Rules};
use crate::{page, tree};

const HEADINGS: [&str; 2] = ["The program", "The repaired program"];

#[test]
fn programs_are_found_out_and_repaired_programs_are_not() {
    let mut failures = Vec::new();
    let paths = tree::files("tests/corpus", ".md");
    assert!(!paths.is_empty());
    for path in paths {
        let page = page::parse(&path, tree::read(&path));
        assert_eq!(page.headings, HEADINGS, "{path}");
        let [broken, repaired] = &page.projects[..] else {
            panic!("{path}: must hold one program and its repair");
        };
        assert!(!broken.expected().is_empty(), "{path}: no finding is asked for");
        assert!(broken.output.is_some(), "{path}: does not show what `check` says");
        assert!(repaired.expected().is_empty(), "{path}: the repaired program must be silent");
        failures.extend(document::run(&page, Rules::Default));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
