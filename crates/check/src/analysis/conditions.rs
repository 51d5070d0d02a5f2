//! Which tests of shared state govern a node.

use smallvec::SmallVec;

use super::Analysis;
use crate::body::{BlockKind, Compare, Op, Val};
use crate::project::FuncId;
use crate::types::Slot;

/// Longer functions are no mere tests.
const PREDICATE_NODES_MAX: usize = 60;

/// What a governing test says of a place, where the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is None, false or missing.
    Absent,
    /// It is there.
    Present,
    /// The container lacks the key.
    LacksKey(Val),
    /// The container has the key.
    HasKey(Val),
    /// It was compared with something else (a limit, a length).
    Compared,
}

/// A test of a place that governs a node.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The slot that is tested.
    pub slot: Slot,
    /// The node that reads it.
    pub read: Val,
    /// What the test says where the node runs.
    pub test: Test,
    /// The node of the test.
    pub at: Val,
    /// The value was read into a local first, so the act may use the local.
    pub through_local: bool,
}

impl Analysis<'_> {
    /// The tests that govern a node, innermost first.
    #[must_use]
    pub fn conditions(&self, func: FuncId, val: Val) -> Vec<Condition> {
        let body = self.body(func);
        let mut found = Vec::new();
        for (_, block) in body.enclosing(val) {
            match block.kind {
                BlockKind::Then(test) => self.atoms(func, test, true, &mut found),
                BlockKind::Else(test) => self.atoms(func, test, false, &mut found),
                BlockKind::Except(tried, caught) => self.failed(func, tried, caught, &mut found),
                _ => {}
            }
        }
        found
    }

    /// Takes a test apart: `not`, `and` where it holds, `or` where it does not.
    pub(super) fn atoms(&self, func: FuncId, test: Val, holds: bool, found: &mut Vec<Condition>) {
        let body = self.body(func);
        let mut work = vec![(test, holds)];
        while let Some((at, holds)) = work.pop() {
            match body.op(at) {
                Op::Not(inner) => work.push((inner, !holds)),
                Op::Both(left, right) if holds => work.extend([(left, true), (right, true)]),
                Op::Either(left, right) if !holds => work.extend([(left, false), (right, false)]),
                // Where an `and` failed, each side alone may have: still a test of both.
                Op::Both(left, right) => work.extend([(left, false), (right, false)]),
                Op::Either(left, right) => work.extend([(left, true), (right, true)]),
                _ => self.atom(func, at, holds, found),
            }
        }
    }

    fn atom(&self, func: FuncId, at: Val, holds: bool, found: &mut Vec<Condition>) {
        let body = self.body(func);
        match body.op(at) {
            Op::Compare { left, how: how @ (Compare::Is | Compare::IsNot), right } => {
                let none = matches!(body.op(right), Op::None);
                let is = (how == Compare::Is) == holds;
                let test = match (none, body.op(right)) {
                    (true, _) => {
                        if is {
                            Test::Absent
                        } else {
                            Test::Present
                        }
                    }
                    (_, Op::Truth(value)) => {
                        if is == value {
                            Test::Present
                        } else {
                            Test::Absent
                        }
                    }
                    _ => Test::Compared,
                };
                self.subject(func, left, test, at, found);
                if !none {
                    self.subject(func, right, Test::Compared, at, found);
                }
            }
            Op::Compare { left, how: how @ (Compare::In | Compare::NotIn), right } => {
                let has = (how == Compare::In) == holds;
                let test = if has { Test::HasKey(left) } else { Test::LacksKey(left) };
                if !self.own_dict(func, left, right, has, at, found) {
                    self.subject(func, right, test, at, found);
                }
            }
            Op::Compare { left, right, .. } => {
                // `len(self.idle) + self.busy < limit` tests both.
                let mut work = vec![right, left];
                while let Some(side) = work.pop() {
                    match body.op(side) {
                        Op::Binary(one, two) => work.extend([two, one]),
                        _ => self.subject(func, side, Test::Compared, at, found),
                    }
                }
            }
            Op::Call { func: target, args } => {
                let args = body.args(args);
                match (body.op(target), args) {
                    (Op::Global(name), [object, key, ..]) if name == "hasattr" => {
                        if let Op::Str(attr) = body.op(key.value) {
                            let test = if holds { Test::Present } else { Test::Absent };
                            for slot in self.attr_slots(func, object.value, attr) {
                                found.push(Condition { slot, read: at, test, at, through_local: false });
                            }
                        }
                    }
                    _ => {
                        self.subject(func, at, if holds { Test::Present } else { Test::Absent }, at, found);
                        self.predicate(func, at, found);
                    }
                }
            }
            _ => self.subject(func, at, if holds { Test::Present } else { Test::Absent }, at, found),
        }
    }

    /// `if self.can_send(node):` tests what the method looks up under the key that it is given.
    fn predicate(&self, func: FuncId, call: Val, found: &mut Vec<Condition>) {
        let body = self.body(func);
        let Op::Call { args, .. } = body.op(call) else { return };
        let [arg] = body.args(args) else { return };
        let callees = self.types.callees(self.project, func, call);
        let [callee] = callees[..] else { return };
        let inner = self.body(callee.func);
        if callee.guessed || inner.nodes.len() > PREDICATE_NODES_MAX {
            return;
        }
        let param = |val: Val| matches!(inner.op(inner.origin(val)), Op::Param(idx) if idx == u32::from(callee.bound));
        for val in inner.vals() {
            let container = match inner.op(val) {
                Op::Item { base, key } if param(key) => base,
                Op::Compare { left, how: Compare::In | Compare::NotIn, right } if param(left) => right,
                Op::Call { func: target, args } => match (inner.op(target), inner.args(args)) {
                    (Op::Attr { base, name }, [key, ..]) if name == "get" && param(key.value) => base,
                    _ => continue,
                },
                _ => continue,
            };
            for slot in self.types.slots_of(self.project, callee.func, container) {
                let test = Test::HasKey(arg.value);
                found.push(Condition { slot, read: call, test, at: call, through_local: false });
            }
        }
    }

    /// `"x" in self.__dict__`
    fn own_dict(&self, func: FuncId, key: Val, container: Val, has: bool, at: Val, found: &mut Vec<Condition>) -> bool {
        let body = self.body(func);
        let (Op::Str(attr), Op::Attr { base, name }) = (body.op(key), body.op(container)) else { return false };
        if name != "__dict__" {
            return false;
        }
        let test = if has { Test::Present } else { Test::Absent };
        for slot in self.attr_slots(func, base, attr) {
            found.push(Condition { slot, read: at, test, at, through_local: false });
        }
        true
    }

    fn attr_slots(&self, func: FuncId, base: Val, name: crate::name::Name) -> SmallVec<[Slot; 2]> {
        use crate::types::Type;
        let classes = self.types.of(func, base).iter().filter_map(|of| match of {
            Type::Instance(class) | Type::Class(class) => Some(*class),
            _ => None,
        });
        classes.map(|class| Slot::Attr(self.types.owner(self.project, class, name), name)).collect()
    }

    /// The place that a tested value comes from: read directly, through a local, by `get`, `len` or an item.
    fn subject(&self, func: FuncId, val: Val, test: Test, at: Val, found: &mut Vec<Condition>) {
        let body = self.body(func);
        let (mut value, mut through_local) = (val, false);
        if let Op::Local(_) = body.op(val) {
            value = body.origin(val);
            through_local = true;
        }
        match body.op(value) {
            Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => {
                for slot in self.types.slots_of(self.project, func, value) {
                    found.push(Condition { slot, read: value, test, at, through_local });
                }
            }
            Op::Item { base, key } => self.keyed(func, base, key, test, at, through_local, found),
            Op::Call { func: target, args } => {
                let args = body.args(args);
                match (body.op(target), args) {
                    (Op::Attr { base, name }, [key, ..]) if matches!(name.as_str(), "get" | "__getitem__") => {
                        self.keyed(func, base, key.value, test, at, through_local, found);
                    }
                    (Op::Global(name), [object, key, ..]) if name == "getattr" => {
                        if let Op::Str(attr) = body.op(key.value) {
                            for slot in self.attr_slots(func, object.value, attr) {
                                found.push(Condition { slot, read: value, test, at, through_local });
                            }
                        }
                    }
                    (Op::Global(name), [container, ..]) if name == "len" || name == "bool" => {
                        let slots = self.types.slots_of(self.project, func, container.value);
                        let test = if matches!(test, Test::Compared) { Test::Compared } else { test };
                        found.extend(slots.into_iter().map(|slot| Condition {
                            slot,
                            read: container.value,
                            test,
                            at,
                            through_local,
                        }));
                    }
                    (Op::Attr { base, name }, []) if matches!(name.as_str(), "empty" | "qsize" | "full") => {
                        let slots = self.types.slots_of(self.project, func, base);
                        let test = Test::Compared;
                        found.extend(slots.into_iter().map(|slot| Condition {
                            slot,
                            read: base,
                            test,
                            at,
                            through_local,
                        }));
                    }
                    _ => {}
                }
            }
            Op::Await(inner) => self.subject(func, inner, test, at, found),
            _ => {}
        }
    }

    #[allow(clippy::too_many_arguments)] // the parts of one condition
    fn keyed(
        &self,
        func: FuncId,
        base: Val,
        key: Val,
        test: Test,
        at: Val,
        through_local: bool,
        found: &mut Vec<Condition>,
    ) {
        let test = match test {
            Test::Absent | Test::LacksKey(_) => Test::LacksKey(key),
            Test::Present | Test::HasKey(_) => Test::HasKey(key),
            Test::Compared => Test::Compared,
        };
        for slot in self.types.slots_of(self.project, func, base) {
            found.push(Condition { slot, read: base, test, at, through_local });
        }
    }

    /// `try: x[k]` ... `except KeyError:`, `try: self.x` ... `except AttributeError:`
    fn failed(&self, func: FuncId, tried: crate::body::BlockId, caught: Option<Val>, found: &mut Vec<Condition>) {
        let body = self.body(func);
        let Some(caught) = caught else { return };
        let names = |wanted: &[&str]| {
            let mut matches = false;
            let mut check = |val: Val| {
                if let Op::Global(name) = body.op(val) {
                    matches |= wanted.contains(&name.as_str());
                }
            };
            check(caught);
            body.operands(caught, check);
            matches
        };
        let keys = names(&["KeyError", "LookupError", "IndexError"]);
        let attrs = names(&["AttributeError", "NameError"]);
        let block = body.block(tried);
        for idx in block.first..block.end {
            let val = Val(idx);
            match body.op(val) {
                Op::Item { base, key } if keys => {
                    for slot in self.types.slots_of(self.project, func, base) {
                        let test = Test::LacksKey(key);
                        found.push(Condition { slot, read: base, test, at: val, through_local: false });
                    }
                }
                Op::Attr { .. } | Op::Global(_) if attrs => {
                    for slot in self.types.slots_of(self.project, func, val) {
                        found.push(Condition { slot, read: val, test: Test::Absent, at: val, through_local: false });
                    }
                }
                _ => {}
            }
        }
    }
}
