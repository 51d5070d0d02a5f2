//! Annotations, as far as types need them.

use ruff_python_ast::{Expr, Operator};
use ruff_python_parser::parse_expression;

use crate::body::Annotation;
use crate::name::Name;

const DEPTH_MAX: usize = 12;

/// What an annotation says.
pub(super) fn annotation(expr: &Expr) -> Annotation {
    at_depth(expr, 0)
}

fn at_depth(expr: &Expr, depth: usize) -> Annotation {
    if depth > DEPTH_MAX {
        return Annotation::Unknown;
    }
    match expr {
        Expr::Name(_) | Expr::Attribute(_) => dotted(expr).map_or(Annotation::Unknown, Annotation::Name),
        Expr::NoneLiteral(_) => Annotation::None,
        Expr::StringLiteral(text) => {
            let text = text.value.to_str();
            if text.starts_with("raceproof:") {
                return Annotation::Text(Name::new(text));
            }
            match parse_expression(text) {
                Ok(parsed) => at_depth(&parsed.syntax().body, depth + 1),
                Err(_) => Annotation::Unknown,
            }
        }
        Expr::BinOp(it) if it.op == Operator::BitOr => {
            Annotation::Union(vec![at_depth(&it.left, depth + 1), at_depth(&it.right, depth + 1)])
        }
        Expr::Subscript(it) => {
            let Some(path) = dotted(&it.value) else { return Annotation::Unknown };
            let args: Vec<_> = match &*it.slice {
                Expr::Tuple(tuple) => tuple.elts.iter().map(|arg| at_depth(arg, depth + 1)).collect(),
                arg => vec![at_depth(arg, depth + 1)],
            };
            match path.last().map(|name| name.as_str()) {
                Some("Optional") => Annotation::Union(args.into_iter().chain([Annotation::None]).collect()),
                Some("Union") => Annotation::Union(args),
                Some("ClassVar" | "Final" | "Required" | "NotRequired" | "ReadOnly") => {
                    args.into_iter().next().unwrap_or(Annotation::Unknown)
                }
                _ => Annotation::Generic(path, args),
            }
        }
        _ => Annotation::Unknown,
    }
}

fn dotted(expr: &Expr) -> Option<Vec<Name>> {
    let mut path = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::Attribute(it) => {
                path.push(Name::new(&it.attr));
                at = &it.value;
            }
            Expr::Name(it) => {
                path.push(Name::new(&it.id));
                path.reverse();
                return Some(path);
            }
            _ => return None,
        }
    }
}
