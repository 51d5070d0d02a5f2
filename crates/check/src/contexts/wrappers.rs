//! Functions that decorators put in the place of others: whoever calls the decorated function runs them, on any
//! thread, and all share what the decorator keeps beside them.

use crate::body::{Body, FunctionKind, LocalId, Op, Val};
use crate::project::{FuncId, Project};

/// Is the function returned by the one around it, and does it pass its arguments on to a function that was given to
/// that one? A closure that is called once, or a callback, does not do that.
pub(super) fn is_wrapper(project: &Project, func: FuncId) -> bool {
    let function = project.function(func);
    let outer_id = project.sibling(func, function.parent);
    let outer = project.function(outer_id);
    if function.kind != FunctionKind::Def || outer.kind != FunctionKind::Def || function.is_generator {
        return false;
    }
    is_returned(&outer.body, function.name.as_str()) && passes_on(project, func, outer_id)
}

/// `return wrapper`, `return update_wrapper(wrapper, func)`, `return wraps(func)(wrapper)`
fn is_returned(outer: &Body, name: &str) -> bool {
    let names_it = |val: Val| matches!(outer.op(val), Op::Local(local) if local_name(outer, local) == name);
    outer.vals().any(|val| match outer.op(val) {
        Op::Return(Some(value)) => match outer.op(value) {
            Op::Call { args, .. } => outer.args(args).iter().any(|arg| names_it(arg.value)),
            _ => names_it(value),
        },
        _ => false,
    })
}

fn local_name(body: &Body, local: LocalId) -> &'static str {
    body.locals[local.0 as usize].as_str()
}

/// Is a parameter of the function around called with `*args` or `**kwargs`?
fn passes_on(project: &Project, func: FuncId, outer: FuncId) -> bool {
    let body = &project.function(func).body;
    body.vals().any(|val| {
        let Op::Call { func: target, args } = body.op(val) else { return false };
        let Op::Captured(owner, local) = body.op(target) else { return false };
        if project.sibling(func, owner) != outer || !body.args(args).iter().any(|arg| arg.starred) {
            return false;
        }
        let around = project.function(outer);
        let name = local_name(&around.body, local);
        around.params.iter().any(|param| !param.starred && param.name == name)
    })
}
