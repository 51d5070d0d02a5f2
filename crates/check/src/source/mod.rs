//! Texts to bodies: the only place that names the parser. Pure per file; files run in parallel.
//!
//! Nothing here fails: what does not parse, or is nested beyond [`DEPTH_MAX`], becomes [`Module::error`]. The parser
//! and the tree it builds recurse on the depth of the text, so each file is handled on a thread with a large stack,
//! and the lowering stops at a fixed depth.

mod annotation;
mod builder;
mod depth;
mod expressions;
pub mod outline;
mod scope;
mod statements;

use std::panic::{AssertUnwindSafe, catch_unwind};

use facts::{FileId, Files};
use ruff_python_ast::token::TokenKind;
use ruff_python_parser::parse_module;
use ruff_text_size::Ranged;

use crate::body::{Comment, Module};
use crate::parallel;

/// Statements and expressions nested deeper than this are not analysed: the file is reported instead.
pub const DEPTH_MAX: usize = 1_000;

/// Files larger than this are not analysed: offsets have 32 bits, and a file of this size was not written by hand.
pub const BYTES_MAX: usize = 64 << 20;

/// Parses and lowers all texts, in the order of [`Files`].
#[must_use]
pub fn load(files: &Files) -> Vec<Module> {
    let texts = files.iter().map(|(id, file)| (id, file.text.as_str())).collect();
    parallel::map(texts, |(id, text)| module(id, text))
}

/// Why `text` does not parse; `None` if it does.
#[must_use]
pub fn syntax_error(text: &str) -> Option<String> {
    parallel::on_large_stack(|| module(FileId(0), text).error.map(|(message, ..)| message))
}

fn module(file: FileId, text: &str) -> Module {
    if text.len() > BYTES_MAX {
        return failed(file, format!("file is larger than {} MiB", BYTES_MAX >> 20), 0, 0);
    }
    if let Some(at) = depth::bracket_beyond(text, DEPTH_MAX) {
        return failed(file, format!("nested more than {DEPTH_MAX} levels deep"), at, at + 1);
    }
    catch_unwind(AssertUnwindSafe(|| parse(file, text)))
        .unwrap_or_else(|_| failed(file, "the parser gave up on this file".to_owned(), 0, 0))
}

fn failed(file: FileId, message: String, start: u32, end: u32) -> Module {
    Module {
        file,
        functions: Vec::new(),
        classes: Vec::new(),
        imports: Vec::new(),
        comments: Vec::new(),
        error: Some((message, start, end)),
    }
}

fn parse(file: FileId, text: &str) -> Module {
    let parsed = match parse_module(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = format!("{}", error.error);
            let range = error.location;
            return failed(file, lower_first(&message), range.start().to_u32(), range.end().to_u32());
        }
    };
    let comments = parsed
        .tokens()
        .iter()
        .filter(|token| token.kind() == TokenKind::Comment)
        .map(|token| (token.start().to_u32(), token.end().to_u32()))
        .filter(|(start, end)| text[*start as usize..*end as usize].contains("raceproof:"))
        .map(|(start, end)| Comment { start, end, own_line: is_own_line(text, start) })
        .collect();
    builder::lower(file, parsed.syntax(), comments)
}

fn is_own_line(text: &str, start: u32) -> bool {
    let before = &text[..start as usize];
    let line = &before[before.rfind('\n').map_or(0, |idx| idx + 1)..];
    line.trim().is_empty()
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
