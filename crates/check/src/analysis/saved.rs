//! State that a function saves, changes for a while and puts back: directly, or through a getter and a setter.

use facts::PlaceId;

use super::{Analysis, is_write};
use crate::body::{BlockKind, Op, Val};
use crate::project::FuncId;
use crate::summary::{Access, Touch};
use crate::types::Type;

/// State that is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A place of the program.
    Place(PlaceId),
    /// State of the whole process, by its name.
    Process(&'static str),
}

/// A write of such state.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// What is changed.
    pub state: State,
    /// The node that changes it: a store, or a call that leads to one.
    pub act: Val,
    /// The values that it is changed to.
    pub first_value: Val,
    /// How many values there are.
    pub is_call: bool,
    /// The write itself, if a call leads to it.
    pub inner: Option<(FuncId, Val)>,
}

/// Where state is saved, changed and put back.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    /// Reads the old value.
    pub save: Val,
    /// Sets the new one.
    pub set: Change,
    /// Puts the old one back.
    pub restore: Change,
}

impl Analysis<'_> {
    /// The state that a function saves, sets and restores around something else.
    #[must_use]
    pub fn swaps(&self, func: FuncId) -> Vec<Swap> {
        let mut found: Vec<Swap> = Vec::new();
        let changes = self.changes(func);
        for restore in &changes {
            let Some(save) = self.saved_in(func, restore) else { continue };
            let set = changes.iter().find(|set| {
                set.state == restore.state && save < set.act && set.act < restore.act && set.act != restore.act
            });
            let Some(set) = set.filter(|set| self.is_around(func, set.act, restore.act)) else { continue };
            if !found.iter().any(|swap| swap.set.state == restore.state) {
                found.push(Swap { save, set: *set, restore: *restore });
            }
        }
        found
    }

    /// All writes of shared state in a function, those of setters that it calls included.
    #[must_use]
    pub fn changes(&self, func: FuncId) -> Vec<Change> {
        let mut found: Vec<Change> = self
            .accesses_in(func)
            .iter()
            .filter(|access| !access.owned)
            .filter_map(|access| self.change(access))
            .collect();
        let body = self.body(func);
        for at in body.vals() {
            if let Some(change) = self.process_change(func, at) {
                found.push(change);
            } else if matches!(body.op(at), Op::Call { .. }) {
                self.setter_changes(func, at, &mut found);
            }
        }
        found.sort_by_key(|change| change.act);
        found
    }

    fn change(&self, access: &Access) -> Option<Change> {
        let body = self.body(access.func);
        let state = State::Place(access.place);
        let (first_value, is_call) = match (access.touch, body.op(access.act)) {
            (Touch::Store(value), _) => (value, false),
            (Touch::Update(_), Op::StoreAttr { value, .. } | Op::StoreGlobal { value, .. }) => (value, false),
            (Touch::Update(_), Op::StoreCaptured { value, .. }) => (value, false),
            (Touch::ItemStore | Touch::ItemUpdate, Op::StoreItem { value, .. }) => (value, false),
            (Touch::Method(name), Op::Call { .. }) if name == "update" => (access.act, true),
            _ => return None,
        };
        Some(Change { state, act: access.act, first_value, is_call, inner: None })
    }

    fn process_change(&self, func: FuncId, at: Val) -> Option<Change> {
        let body = self.body(func);
        let named = |val: Val| {
            self.types.of(func, val).iter().find_map(|of| match of {
                Type::External(name) => Some(name.as_str()),
                _ => None,
            })
        };
        let (name, first_value, is_call) = match body.op(at) {
            Op::StoreAttr { base, name, value, .. } if named(base) == Some("sys") => match name.as_str() {
                "stdout" => ("sys.stdout", value, false),
                "stderr" => ("sys.stderr", value, false),
                "stdin" => ("sys.stdin", value, false),
                _ => return None,
            },
            Op::StoreItem { base, value, .. } if named(base) == Some("os.environ") => ("os.environ", value, false),
            Op::Call { .. } => match self.external_callee(func, at)?.as_str() {
                "os.chdir" => ("os.getcwd", at, true),
                "socket.setdefaulttimeout" => ("socket.getdefaulttimeout", at, true),
                "locale.setlocale" => ("locale.setlocale", at, true),
                _ => return None,
            },
            _ => return None,
        };
        Some(Change { state: State::Process(name), act: at, first_value, is_call, inner: None })
    }

    /// A call of a function that writes module or class state.
    fn setter_changes(&self, func: FuncId, call: Val, found: &mut Vec<Change>) {
        for callee in self.callees(func, call) {
            if callee == func || self.project.function(callee).params.is_empty() {
                continue;
            }
            let writes = self.accesses_in(callee).iter().filter(|access| !access.owned && is_write(access));
            for access in writes {
                let inner = Some((callee, access.act));
                let state = State::Place(access.place);
                if !found.iter().any(|known| known.act == call && known.state == state) {
                    found.push(Change { state, act: call, first_value: call, is_call: true, inner });
                }
            }
        }
    }

    /// The read of the old value that a change puts back.
    fn saved_in(&self, func: FuncId, change: &Change) -> Option<Val> {
        let body = self.body(func);
        if !change.is_call {
            return self.saved_by(func, change.first_value, change.state);
        }
        let Op::Call { args, .. } = body.op(change.act) else { return None };
        body.args(args).iter().find_map(|arg| {
            // Only what was read into a local before is a saved value.
            matches!(body.op(arg.value), Op::Local(_)).then(|| self.saved_by(func, arg.value, change.state)).flatten()
        })
    }

    /// The node at which a value was read out of `state`, as it is, as a copy, or by a getter.
    #[must_use]
    pub fn saved_by(&self, func: FuncId, value: Val, state: State) -> Option<Val> {
        let body = self.body(func);
        let mut at = value;
        for _ in 0..4 {
            at = body.origin(at);
            if self.reads_state(func, at, state) {
                return Some(at);
            }
            let Op::Call { func: target, args } = body.op(at) else { return None };
            let arguments = body.args(args);
            match (body.op(target), arguments.first()) {
                (Op::Attr { base, name }, _) if matches!(name.as_str(), "copy" | "get" | "pop") => at = base,
                (Op::Global(name), Some(arg)) if matches!(name.as_str(), "dict" | "list" | "set") => at = arg.value,
                (_, Some(arg)) if self.external_callee(func, at).is_some_and(|name| copies(name.as_str())) => {
                    at = arg.value;
                }
                _ => return self.is_getter_call(func, at, state).then_some(at),
            }
        }
        None
    }

    fn reads_state(&self, func: FuncId, at: Val, state: State) -> bool {
        let body = self.body(func);
        match state {
            State::Place(place) => {
                let slot = self.summaries.slot(place);
                match body.op(at) {
                    Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => self.slots(func, at).contains(&slot),
                    Op::Item { base, .. } => self.slots(func, base).contains(&slot),
                    _ => false,
                }
            }
            State::Process(name) => {
                let named = |val: Val| {
                    self.types.of(func, val).iter().any(|of| matches!(of, Type::External(known) if *known == name))
                };
                match body.op(at) {
                    Op::Attr { .. } => named(at),
                    Op::Item { base, .. } => named(base),
                    Op::Call { .. } => self.external_callee(func, at).is_some_and(|known| known == name),
                    _ => false,
                }
            }
        }
    }

    /// Does a call give what the place holds, or a copy of it?
    fn is_getter_call(&self, func: FuncId, call: Val, state: State) -> bool {
        self.callees(func, call).into_iter().filter(|callee| *callee != func).any(|callee| {
            let body = self.body(callee);
            body.vals().any(|val| match body.op(val) {
                Op::Return(Some(value)) => self.returns_state(callee, value, state),
                _ => false,
            })
        })
    }

    fn returns_state(&self, func: FuncId, value: Val, state: State) -> bool {
        let body = self.body(func);
        let mut at = value;
        for _ in 0..4 {
            at = body.origin(at);
            if self.reads_state(func, at, state) {
                return true;
            }
            match body.op(at) {
                Op::Call { func: target, args } => match (body.op(target), body.args(args).first()) {
                    (Op::Attr { base, name }, _) if name == "copy" => at = base,
                    (Op::Global(name), Some(arg)) if name == "dict" => at = arg.value,
                    _ => return false,
                },
                _ => return false,
            }
        }
        false
    }

    /// Is something else done between the change and its undoing: does the undoing stand in a `finally`, or after a
    /// `yield`?
    fn is_around(&self, func: FuncId, set: Val, restore: Val) -> bool {
        let body = self.body(func);
        let in_finally = body.enclosing(restore).any(|(_, block)| match block.kind {
            BlockKind::Finally(tried) => body.block(tried).end > set.0 || body.block(tried).first > set.0,
            _ => false,
        });
        in_finally || (set.0..restore.0).any(|idx| matches!(body.op(Val(idx)), Op::Yield(_)))
    }
}

fn copies(name: &str) -> bool {
    matches!(name, "copy.copy" | "copy.deepcopy" | "dict" | "list" | "collections.OrderedDict")
}
