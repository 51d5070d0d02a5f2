//! Arguments that a call hands on to a function which runs elsewhere: `Thread(target=f, args=(x,))`,
//! `pool.submit(f, x)`.

use smallvec::SmallVec;

use crate::body::{Body, Display, Op, Val};
use crate::name::Name;

/// The function and its positional arguments, if the call is one that hands some on. `dotted` is the external thing
/// that is called, if it is known.
pub(super) fn arguments(body: &Body, call: Val, dotted: Option<Name>) -> Option<(Val, SmallVec<[Val; 4]>)> {
    let Op::Call { func, args } = body.op(call) else { return None };
    let args = body.args(args);
    let named = |name: &str| args.iter().find(|arg| arg.name.is_some_and(|arg| arg == name)).map(|arg| arg.value);
    let nth = |idx: usize| args.get(idx).filter(|arg| arg.name.is_none() && !arg.starred).map(|arg| arg.value);
    let rest = |from: usize| -> SmallVec<[Val; 4]> {
        args.iter().skip(from).take_while(|arg| arg.name.is_none() && !arg.starred).map(|arg| arg.value).collect()
    };
    let packed = |val: Option<Val>| -> SmallVec<[Val; 4]> {
        match val.map(|val| body.op(body.origin(val))) {
            Some(Op::Display(Display::Tuple | Display::List, items)) => {
                body.args(items).iter().take_while(|item| !item.starred).map(|item| item.value).collect()
            }
            _ => SmallVec::new(),
        }
    };
    match dotted.map_or("", Name::as_str) {
        "threading.Thread" => return Some((named("target").or(nth(1))?, packed(named("args").or(nth(3))))),
        "threading.Timer" => return Some((named("function").or(nth(1))?, packed(named("args").or(nth(2))))),
        "_thread.start_new_thread" => return Some((nth(0)?, packed(nth(1)))),
        "asyncio.to_thread" | "anyio.to_thread.run_sync" | "starlette.concurrency.run_in_threadpool" => {
            return Some((nth(0)?, rest(1)));
        }
        _ => {}
    }
    let Op::Attr { name, .. } = body.op(func) else { return None };
    match name.as_str() {
        "submit" | "call_soon" | "call_soon_threadsafe" => Some((nth(0)?, rest(1))),
        "run_in_executor" | "call_later" | "call_at" => Some((nth(1)?, rest(2))),
        _ => None,
    }
}
