//! What the text says beside the code: comments at a statement, and what a value is made of.

use facts::Span;

use super::Analysis;
use crate::body::{Op, Val};
use crate::project::FuncId;

/// How many operands of a value are looked at.
const OPERANDS_MAX: usize = 32;

fn assigned(line: &str) -> Option<&str> {
    line.split_once('=').map(|(_, value)| value.trim())
}

impl<'a> Analysis<'a> {
    /// The comments at a statement: behind it, or in the block above it. The block above several assignments of the
    /// same kind (`= asyncio.Lock()`) is about all of them.
    pub fn remarks(&self, span: Span) -> impl Iterator<Item = &'a str> + use<'a> {
        let file = self.files.get(span.file);
        let line = self.files.start(span).line;
        let own = file.line(line);
        let alike =
            move |text: &&str| !text.starts_with('#') && assigned(text).is_some() && assigned(text) == assigned(own);
        let above = (1..line).rev().map(|line| file.line(line).trim()).skip_while(alike);
        own.split_once('#')
            .map(|(_, comment)| comment)
            .into_iter()
            .chain(above.take_while(|text| text.starts_with('#')))
    }

    /// Is a value made from a parameter of the function (`self` aside)?
    #[must_use]
    pub fn depends_on_parameter(&self, func: FuncId, value: Val) -> bool {
        let body = self.body(func);
        let mut work = vec![value];
        for _ in 0..OPERANDS_MAX {
            let Some(at) = work.pop() else { return false };
            let origin = body.origin(at);
            match body.op(origin) {
                Op::Param(idx) if idx > 0 || self.project.class_of(func).is_none() => return true,
                _ => body.operands(origin, |operand| work.push(operand)),
            }
        }
        false
    }
}
