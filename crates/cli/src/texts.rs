//! Reads files into texts: encodings, marks at the beginning, sizes. What cannot be read is a finding, not an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use encoding_rs::Encoding;
use facts::{FileId, Files, Finding};
use rayon::prelude::*;

use crate::discover::{Discovered, reason};

/// The largest file that is read, in bytes: more is generated data, not a program that people write.
pub const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a file's bytes became a text, so that it can be written back the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// UTF-8; does it begin with a byte order mark?
    Utf8 {
        /// The mark is not part of the text.
        marked: bool,
    },
    /// Another encoding, by name: such a file is read but never rewritten.
    Other(&'static str),
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Texts {
    /// The texts, by shown path, sorted.
    pub files: Files,
    /// For each text the path to open and its form; `None` where nothing could be read.
    pub origins: Vec<Option<(PathBuf, Form)>>,
    /// A finding for each file that could not be read.
    pub findings: Vec<Finding>,
}

impl Texts {
    /// Where a text came from; `None` if it could not be read.
    #[must_use]
    pub fn origin(&self, file: FileId) -> Option<&(PathBuf, Form)> {
        self.origins.get(file.0 as usize)?.as_ref()
    }
}

/// Reads all that was discovered, in parallel; the order of the texts is that of their paths.
#[must_use]
pub fn read(found: &Discovered) -> Texts {
    let wanted: Vec<(&String, &PathBuf)> = found.files.iter().collect();
    let read: Vec<Result<(String, Form), String>> = wanted.par_iter().map(|(_, path)| read_file(path)).collect();
    let mut all: BTreeMap<&String, Result<(String, Form, &PathBuf), String>> = BTreeMap::new();
    for (shown, reason) in &found.unreadable {
        all.insert(shown, Err(reason.clone()));
    }
    for ((shown, path), read) in wanted.into_iter().zip(read) {
        all.insert(shown, read.map(|(text, form)| (text, form, path)));
    }
    let mut texts = Texts::default();
    for (shown, read) in all {
        match read {
            Ok((text, form, path)) => {
                texts.files.add(shown, text);
                texts.origins.push(Some((path.clone(), form)));
            }
            Err(reason) => {
                let file = texts.files.add(shown, "");
                texts.origins.push(None);
                texts.findings.push(check::unreadable(&texts.files, file, &reason));
            }
        }
    }
    texts
}

/// The text of one file and the form it had, or why it could not be had.
///
/// # Errors
/// A reason in lower case, without a full stop.
pub fn read_file(path: &Path) -> Result<(String, Form), String> {
    let meta = std::fs::metadata(path).map_err(|cause| reason(&cause))?;
    if !meta.is_file() {
        return Err("not a plain file".to_owned());
    }
    if meta.len() > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX / (1024 * 1024);
        return Err(format!("larger than {limit} MiB, the limit for one file"));
    }
    decode(std::fs::read(path).map_err(|cause| reason(&cause))?)
}

/// Bytes as Python reads them: a byte order mark, else the encoding named in the first two lines, else UTF-8.
fn decode(bytes: Vec<u8>) -> Result<(String, Form), String> {
    if let Some(rest) = bytes.strip_prefix(BYTE_ORDER_MARK) {
        let text = std::str::from_utf8(rest).map_err(|_| "not valid UTF-8".to_owned())?;
        return Ok((text.to_owned(), Form::Utf8 { marked: true }));
    }
    let Some(label) = declared_encoding(&bytes) else {
        return utf8(bytes);
    };
    let encoding =
        find_encoding(&label).ok_or_else(|| format!("its encoding, `{label}`, is not known to raceproof"))?;
    if encoding == encoding_rs::UTF_8 {
        return utf8(bytes);
    }
    match encoding.decode_without_bom_handling_and_without_replacement(&bytes) {
        Some(text) => Ok((text.into_owned(), Form::Other(encoding.name()))),
        None => Err(format!("not valid {}", encoding.name())),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<(String, Form), String> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, Form::Utf8 { marked: false })),
        Err(error) => {
            let upto = error.utf8_error().valid_up_to();
            let breaks = error.as_bytes()[..upto].iter().filter(|b| **b == b'\n');
            Err(format!("line {} is not valid UTF-8, and no other encoding is declared", breaks.count() + 1))
        }
    }
}

/// The name after `coding:` or `coding=` in a comment of the first two lines (PEP 263).
fn declared_encoding(bytes: &[u8]) -> Option<String> {
    for line in bytes.split(|byte| *byte == b'\n').take(2) {
        let line = String::from_utf8_lossy(&line[..line.len().min(400)]);
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(label) = label_in(comment) {
                return Some(label);
            }
        } else if !line.trim().is_empty() {
            return None;
        }
    }
    None
}

fn label_in(comment: &str) -> Option<String> {
    comment.match_indices("coding").find_map(|(at, word)| {
        let rest = comment[at + word.len()..].strip_prefix([':', '='])?;
        let label: String = rest
            .trim_start_matches([' ', '\t'])
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .collect();
        (!label.is_empty()).then_some(label)
    })
}

/// Python takes more spellings than the web does: `latin-1`, `utf_8`, `euc_jp`.
fn find_encoding(label: &str) -> Option<&'static Encoding> {
    let label = label.to_lowercase();
    let label = label.strip_suffix("-unix").unwrap_or(&label);
    let spellings = [
        label.to_owned(),
        label.replace('_', "-"),
        label.replace(['-', '_'], ""),
        label.replacen("iso", "iso-", 1).replace('_', "-"),
    ];
    spellings
        .iter()
        .find_map(|spelling| Encoding::for_label(spelling.as_bytes()))
        .or_else(|| label.starts_with("utf-8").then_some(encoding_rs::UTF_8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<(String, Form), String> {
        decode(bytes.to_vec())
    }

    #[test]
    fn a_mark_is_taken_off_and_remembered() {
        assert_eq!(decoded(b"\xEF\xBB\xBFx = 1\n"), Ok(("x = 1\n".to_owned(), Form::Utf8 { marked: true })));
    }

    #[test]
    fn a_declared_encoding_is_used() {
        let (text, form) = decoded(b"# -*- coding: latin-1 -*-\nx = '\xE9'\n").expect("latin-1");
        assert!(text.ends_with("x = 'é'\n"));
        assert_eq!(form, Form::Other("windows-1252"));
        let second_line = decoded(b"#!/usr/bin/python\n# vim: set fileencoding=koi8-r :\n");
        assert_eq!(second_line.expect("koi8-r").1, Form::Other("KOI8-R"));
        for spelling in ["utf-8", "utf8", "UTF_8", "utf-8-unix"] {
            let text = format!("# coding: {spelling}\n");
            assert_eq!(decoded(text.as_bytes()).expect(spelling).1, Form::Utf8 { marked: false });
        }
    }

    #[test]
    fn what_does_not_decode_says_why() {
        assert_eq!(
            decoded(b"x = 1\ny = '\xE9'\n"),
            Err("line 2 is not valid UTF-8, and no other encoding is declared".to_owned())
        );
        assert_eq!(decoded(b"# coding: rot13\n"), Err("its encoding, `rot13`, is not known to raceproof".to_owned()));
    }
}
