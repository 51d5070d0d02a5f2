//! What makes an object ready after it has been made: items stored, attributes set, methods that prepare it.

use facts::PlaceId;

use super::{Analysis, Made};
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;
use crate::summary::mutating;
use crate::summary::{Access, Touch};
use crate::types::{Std, Type};

/// How many nodes after a store are looked at.
const REACH: u32 = 400;

impl Analysis<'_> {
    /// The value of an item store.
    #[must_use]
    pub fn item_stored(&self, func: FuncId, act: Val) -> Option<Val> {
        match self.body(func).op(act) {
            Op::StoreItem { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The last node after `store`, run whenever it is, that makes the stored object ready: in the function itself or in
    /// what it calls.
    #[must_use]
    pub fn readied_after(&self, store: &Access, value: Val, made: Made) -> Option<Val> {
        let body = self.body(store.func);
        let end = body.block(body.node(store.act).block).end.min(store.act.0 + REACH);
        let mut last = None;
        for idx in store.act.0 + 1..end {
            let at = Val(idx);
            if !self.follows(store.func, store.act, at) {
                continue;
            }
            if self.ends(store, at) {
                break;
            }
            let readies = self.denotes(store, value, at) && self.readies(store.func, at, made, 0)
                || store.touch != Touch::ItemStore && self.call_readies(store.func, at, store.place, made);
            if readies {
                last = Some(self.outermost(store.func, at));
            }
        }
        last
    }

    /// The node after the call at `from` that makes ready what the call has published at `place`.
    #[must_use]
    pub fn readied_by_call(&self, func: FuncId, from: Val, place: PlaceId) -> Option<Val> {
        let body = self.body(func);
        let end = body.block(body.node(from).block).end.min(from.0 + REACH);
        let made = Made::Foreign;
        (from.0 + 1..end).map(Val).find(|at| self.follows(func, from, *at) && self.call_readies(func, *at, place, made))
    }

    /// Does `at` run whenever `from` has run (loops over something aside), as one piece of work?
    fn follows(&self, func: FuncId, from: Val, at: Val) -> bool {
        let body = self.body(func);
        let around = body.node(from).block;
        for (id, block) in body.enclosing(at) {
            if id == around {
                return true;
            }
            match block.kind {
                BlockKind::Loop(over) if matches!(body.op(over), Op::Iter { .. }) => {}
                BlockKind::Loop(_) => return false,
                BlockKind::Then(_) | BlockKind::Else(_) | BlockKind::Except(..) | BlockKind::Case(_)
                    if !self.has_for_loop(func, from, id) =>
                {
                    return false;
                }
                _ => {}
            }
        }
        body.block(around).kind == BlockKind::Body
    }

    /// Is the branch inside a `for` loop that begins after `from`?
    fn has_for_loop(&self, func: FuncId, from: Val, branch: crate::body::BlockId) -> bool {
        let body = self.body(func);
        let mut at = body.block(branch).parent;
        loop {
            let block = body.block(at);
            if block.first <= from.0 || block.kind == BlockKind::Body {
                return false;
            }
            if matches!(block.kind, BlockKind::Loop(over) if matches!(body.op(over), Op::Iter { .. })) {
                return true;
            }
            at = block.parent;
        }
    }

    /// Is the place given another object here?
    fn ends(&self, store: &Access, at: Val) -> bool {
        let body = self.body(store.func);
        let rebinds = matches!(
            body.op(at),
            Op::StoreAttr { .. } | Op::StoreGlobal { .. } | Op::StoreCaptured { .. } | Op::DelAttr { .. }
        );
        rebinds && self.slots(store.func, at).contains(&self.summaries.slot(store.place))
    }

    /// Does a node stand for the object that a store has published?
    fn denotes(&self, store: &Access, value: Val, at: Val) -> bool {
        let body = self.body(store.func);
        let slot = self.summaries.slot(store.place);
        match body.op(at) {
            Op::Local(_) if self.is_same_object(store.func, at, value) => true,
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..) | Op::Local(_) => {
                store.touch != Touch::ItemStore && self.slots(store.func, at).contains(&slot)
            }
            Op::Item { base, key } if store.touch == Touch::ItemStore => {
                let Op::StoreItem { key: stored, .. } = body.op(store.act) else { return false };
                self.slots(store.func, base).contains(&slot)
                    && self.text(store.func, key) == self.text(store.func, stored)
            }
            _ => false,
        }
    }

    /// Does the use of an object make it ready?
    fn readies(&self, func: FuncId, object: Val, made: Made, depth: usize) -> bool {
        let body = self.body(func);
        let Some(user) = self.consumer(func, object) else { return false };
        match body.op(user) {
            Op::StoreItem { base, .. } => base == object && !matches!(made, Made::Foreign),
            Op::StoreAttr { base, .. } => base == object && !matches!(made, Made::Container(_)),
            Op::Attr { base, .. } if base == object => match self.called_on(func, object) {
                Some((_, name)) if depth > 0 => grows(name.as_str()),
                Some((call, name)) => self.prepares(func, call, name.as_str(), made),
                // `pool.names.append(...)`
                None => depth == 0 && self.readies(func, user, Made::Foreign, 1),
            },
            _ => false,
        }
    }

    fn prepares(&self, func: FuncId, call: Val, name: &str, made: Made) -> bool {
        match made {
            Made::Container(_) => grows(name),
            Made::Object(_) => {
                let callees = self.callees(func, call);
                if callees.is_empty() {
                    return says_ready(name);
                }
                callees.into_iter().any(|callee| self.changes_self(callee))
            }
            Made::Foreign => says_ready(name),
        }
    }

    /// Does a call lead to code that fills what `place` holds?
    fn call_readies(&self, func: FuncId, at: Val, place: PlaceId, made: Made) -> bool {
        let on_object = matches!(self.summaries.slot(place), crate::types::Slot::Attr(..));
        let callees = if on_object { self.self_callees(func, at) } else { self.callees(func, at) };
        if !matches!(self.body(func).op(at), Op::Call { .. }) {
            return false;
        }
        callees.into_iter().flat_map(|callee| self.self_reach(callee)).any(|callee| {
            self.accesses(place).filter(|access| access.func == callee).any(|access| self.fills(access, made))
        })
    }

    /// Does an access put something into the object that the place holds, other than in a branch?
    fn fills(&self, access: &Access, made: Made) -> bool {
        match access.touch {
            Touch::ItemStore => true,
            Touch::Method(name) if grows(name.as_str()) => true,
            Touch::Method(name) => !matches!(made, Made::Container(_)) && says_ready(name.as_str()),
            _ => false,
        }
    }

    /// The statement-like node around a use: the call or store that it is part of.
    fn outermost(&self, func: FuncId, object: Val) -> Val {
        let body = self.body(func);
        let mut at = object;
        for _ in 0..6 {
            match self.consumer(func, at) {
                Some(user) if !matches!(body.op(user), Op::Discard(_)) => at = user,
                _ => break,
            }
        }
        at
    }

    /// Is the new object a thread? It may be seen before it has been started.
    #[must_use]
    pub fn is_thread(&self, made: Made) -> bool {
        let Made::Object(class) = made else { return false };
        matches!(self.types.std_of(self.project, Type::Instance(class)), Some(Std::Thread | Std::Timer))
    }
}

/// Does the method put something into a container?
fn grows(name: &str) -> bool {
    mutating(name)
        && !matches!(
            name,
            "pop" | "popleft" | "popitem" | "remove" | "discard" | "clear" | "sort" | "reverse" | "rotate"
        )
}

/// Does the name of a method say that the object is not ready before?
fn says_ready(name: &str) -> bool {
    let name = name.trim_start_matches('_');
    let word = name.split('_').next().unwrap_or("");
    matches!(
        word,
        "start"
            | "open"
            | "connect"
            | "init"
            | "initialize"
            | "initialise"
            | "setup"
            | "load"
            | "login"
            | "prepare"
            | "configure"
            | "populate"
            | "bootstrap"
            | "authenticate"
    ) || name == "set_up"
}
