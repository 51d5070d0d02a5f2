//! What the documentation of classes says of threads: "this class is thread-safe" means that several threads are
//! expected to use one instance.

use facts::{Files, Span};

use crate::project::{ClassId, Project};

/// How much of a class is searched for its documentation.
const REACH: usize = 6000;

/// How much of what stands before the claim may take it back.
const BEFORE: usize = 60;

/// The classes that say so, with the place where they do.
pub(crate) fn documented(files: &Files, project: &Project) -> Vec<(ClassId, Span)> {
    let mut found = Vec::new();
    for class in project.class_ids() {
        let file = project.modules[project.class_info(class).module.0 as usize].file;
        let def = project.class(class);
        let (start, end) = (def.head_end as usize, (def.end as usize).min(def.head_end as usize + REACH));
        let Some(text) = files.get(file).text.get(start..floor(&files.get(file).text, end)) else { continue };
        let Some((from, doc)) = docstring(text) else { continue };
        if let Some(at) = claim(doc) {
            let at = u32::try_from(start + from + at).unwrap_or(def.head_end);
            found.push((class, Span::new(file, at, at + 11)));
        }
    }
    found
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The documentation of a class, whose text after its name is given, and where it begins.
fn docstring(text: &str) -> Option<(usize, &str)> {
    let mut at = text.find('\n')?;
    at += text[at..].len() - text[at..].trim_start().len();
    let rest = text[at..].trim_start_matches(['r', 'R', 'u', 'U']);
    at = text.len() - rest.len();
    let quote = ["\"\"\"", "'''"].into_iter().find(|quote| rest.starts_with(quote))?;
    let inner = &rest[3..];
    Some((at + 3, &inner[..inner.find(quote).unwrap_or(inner.len())]))
}

/// Where the text says that something is thread-safe, if nothing takes that back.
fn claim(doc: &str) -> Option<usize> {
    let lower = doc.to_ascii_lowercase();
    let mut first = None;
    for word in ["thread-safe", "thread safe", "threadsafe"] {
        for (at, _) in lower.match_indices(word) {
            // `thread safety` is a subject, not a claim.
            if lower[at + word.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_') {
                continue;
            }
            let before = &lower[floor(&lower, at.saturating_sub(BEFORE))..at];
            let sentence = before.rsplit(". ").next().unwrap_or(before);
            let words = ["not", "**not**", "*not*", "no", "never", "if", "without", "unless"];
            let takes_back = sentence.split_whitespace().any(|part| words.contains(&part) || part.ends_with("n't"));
            let ends = ["non-", "non ", "un", "should be ", "must be ", "_", ".", "-"];
            let denied = takes_back || ends.iter().any(|end| sentence.ends_with(end));
            if denied {
                return None;
            }
            first = first.or(Some(at));
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::{claim, docstring};

    #[test]
    fn claims_and_denials() {
        assert!(claim("A thread-safe pool.").is_some());
        assert!(claim("The producer is thread safe and sharing it is fine.").is_some());
        assert!(claim("This class is not thread-safe!").is_none());
        assert!(claim("The object is **not** threadsafe.").is_none());
        assert!(claim("It isn't really thread safe.").is_none());
        assert!(claim("Thread safety. It is **not** thread-safe. See thread-safe pools.").is_none());
        assert!(claim("Use loop.call_soon_threadsafe here.").is_none());
    }

    #[test]
    fn finds_documentation() {
        assert_eq!(docstring("(Base):\n    \"\"\"Says.\"\"\"\n    x = 1\n"), Some((15, "Says.")));
        assert_eq!(docstring(":\n    x = 1\n"), None);
    }
}
