//! What decorators and special names say of a function.

use super::Flags;
use crate::body::Op;
use crate::project::{FuncId, Project, Symbol};

pub(super) fn flags(project: &Project, id: FuncId) -> Flags {
    let function = project.function(id);
    let parent = project.sibling(id, function.parent);
    let body = &project.function(parent).body;
    let mut found = Flags::default();
    for decorator in &function.decorators {
        let target = match body.op(*decorator) {
            Op::Call { func, .. } => func,
            _ => *decorator,
        };
        let name = match (project.symbol_of(parent, target), body.op(target)) {
            (Some(Symbol::External(dotted)), _) => dotted.as_str().rsplit('.').next().unwrap_or(""),
            (_, Op::Attr { name, .. } | Op::Global(name)) => name.as_str(),
            _ => "",
        };
        match name {
            "staticmethod" => found.is_static = true,
            "classmethod" => found.is_class = true,
            "property" | "cached_property" | "setter" | "getter" | "deleter" | "abstractproperty" => {
                found.is_property = true;
            }
            "contextmanager" | "asynccontextmanager" => found.is_context_manager = true,
            "lru_cache" | "cache" => found.is_cached = true,
            "overload" | "abstractmethod" => found.is_stub = true,
            other => {
                found.is_property |= other.contains("memoized") && other.contains("property")
                    || other == "memoized_attribute"
                    || other == "reify";
            }
        }
    }
    if matches!(function.name.as_str(), "__new__" | "__init_subclass__" | "__class_getitem__") {
        found.is_class = true;
    }
    found
}
