//! Counts open brackets before a text is parsed: the parser recurses on them, and a file of millions of open brackets
//! would cost gigabytes before anybody could say no.
//!
//! Knows strings and comments, and nothing else of the language. Where quotes stand inside the holes of an f-string the
//! count may be off by a few, which does not matter to a limit of a thousand.

/// The bytes at which something may have to be done; most are none of them.
static STOPS: [bool; 256] = {
    let mut stops = [false; 256];
    let all = b"()[]{}#\"'";
    let mut idx = 0;
    while idx < all.len() {
        stops[all[idx] as usize] = true;
        idx += 1;
    }
    stops
};

/// The first bracket that is nested more than `max` levels deep.
#[must_use]
pub(super) fn bracket_beyond(text: &str, max: usize) -> Option<u32> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(n) = bytes.get(at..)?.iter().position(|byte| STOPS[*byte as usize]) {
        at += n;
        match bytes[at] {
            b'(' | b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return u32::try_from(at).ok();
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => {
                at = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n);
                continue;
            }
            b'"' | b'\'' => {
                at = end_of_string(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// One past the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let triple = bytes[at..].starts_with(&[quote; 3]);
    let mut at = at + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' if !triple => return at,
            byte if byte == quote && !triple => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return at + 3,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_outside_of_strings_and_comments() {
        assert_eq!(bracket_beyond("x = [[[1]]]", 2), Some(6));
        assert_eq!(bracket_beyond("x = [[1], [2], [3]]", 2), None);
        assert_eq!(bracket_beyond("x = '[[[' + \"(((\" # {{{\n", 2), None);
        assert_eq!(bracket_beyond("'''\n[[[ ' \\''' [[\n''' + [[[", 2), Some(26));
        assert_eq!(bracket_beyond("'\\'[[['", 2), None);
        assert_eq!(bracket_beyond("'open [[[\n[[", 2), None);
    }
}
