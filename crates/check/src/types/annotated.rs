//! Types from annotations.

use super::{Container, Type, Types, standard};
use crate::body::Annotation;
use crate::name::Name;
use crate::project::{ModuleId, Project, Symbol, join};

/// What an annotation says: the types, and those of the elements if it is a container.
pub(super) fn types(project: &Project, module: ModuleId, annotation: &Annotation) -> (Types, Types) {
    match annotation {
        Annotation::None => (Types::from_slice(&[Type::None]), Types::new()),
        Annotation::Name(path) => (named(project, module, path), Types::new()),
        Annotation::Union(parts) => {
            let (mut all, mut elements) = (Types::new(), Types::new());
            for part in parts {
                let (types, inner) = self::types(project, module, part);
                all.extend(types);
                elements.extend(inner);
            }
            (all, elements)
        }
        Annotation::Generic(path, args) => {
            let last = path.last().map_or("", |name| name.as_str());
            let inner = |idx: usize| args.get(idx).map(|arg| self::types(project, module, arg).0).unwrap_or_default();
            match last {
                "Annotated" => args.first().map(|arg| self::types(project, module, arg)).unwrap_or_default(),
                "Type" | "type" => {
                    let classes = inner(0).into_iter().filter_map(|of| match of {
                        Type::Instance(class) => Some(Type::Class(class)),
                        _ => None,
                    });
                    (classes.collect(), Types::new())
                }
                "Tuple" | "tuple" | "FrozenSet" | "frozenset" => (Types::from_slice(&[Type::Plain]), inner(0)),
                _ => {
                    let types = named(project, module, path);
                    let is_map =
                        types.iter().any(|of| matches!(of, Type::Container(Container::Dict | Container::WeakDict)))
                            || matches!(last, "Mapping");
                    (types, inner(usize::from(is_map && args.len() > 1)))
                }
            }
        }
        Annotation::Text(_) | Annotation::Unknown => (Types::new(), Types::new()),
    }
}

fn named(project: &Project, module: ModuleId, path: &[Name]) -> Types {
    let mut symbol = project.lookup(module, path[0]);
    for name in &path[1..] {
        match project.member(symbol, *name) {
            Some(next) => symbol = next,
            None => return Types::new(),
        }
    }
    match symbol {
        Symbol::Class(class) => Types::from_slice(&[Type::Instance(class)]),
        Symbol::External(dotted) => external(dotted),
        _ => Types::new(),
    }
}

fn external(dotted: Name) -> Types {
    let text = dotted.as_str();
    if matches!(text, "typing.Any" | "object" | "typing.Self" | "type") {
        return Types::new();
    }
    if let Some(of) = standard::constructed(text) {
        return Types::from_slice(&[of]);
    }
    let unqualified = text.strip_prefix("typing.").or_else(|| text.strip_prefix("collections.abc.")).unwrap_or(text);
    match unqualified {
        "Callable" | "Iterable" | "Iterator" | "Awaitable" | "Coroutine" | "TypeVar" | "Sequence" | "Collection"
        | "AsyncIterator" | "AsyncGenerator" | "Generator" | "Hashable" => Types::new(),
        "asyncio.AbstractEventLoop" => Types::from_slice(&[Type::Std(super::Std::Loop)]),
        "Mapping" => Types::new(),
        _ => Types::from_slice(&[Type::Foreign(join(&[dotted]))]),
    }
}
