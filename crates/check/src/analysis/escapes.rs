//! How a container leaves a function: as it is, as a view or iterator, or as an element that is a container itself.

use facts::PlaceId;
use smallvec::SmallVec;

use super::Analysis;
use crate::body::{BlockKind, Display, Op, Val};
use crate::project::FuncId;
use crate::summary::mutating;
use crate::types::{Container, Slot, Type};

/// What is handed out of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The container itself.
    Whole,
    /// A view of it, or an iterator over it.
    View,
    /// What it holds under a key.
    Element,
}

/// A value that gives away a place.
#[derive(Clone, Copy, Debug)]
pub struct Escape {
    /// The place.
    pub place: PlaceId,
    /// The node that reads it.
    pub read: Val,
    /// What is given away.
    pub part: Part,
}

impl Analysis<'_> {
    /// What a returned or yielded value gives away.
    #[must_use]
    pub fn escapes(&self, func: FuncId, value: Val) -> SmallVec<[Escape; 2]> {
        let mut found = SmallVec::new();
        let body = self.body(func);
        let mut work = vec![(value, Part::Whole)];
        let mut steps = 0;
        while let Some((at, part)) = work.pop() {
            steps += 1;
            if steps > 16 {
                break;
            }
            match body.op(at) {
                Op::Attr { .. } | Op::Global(_) | Op::Captured(..) => self.place_read(func, at, part, &mut found),
                Op::Local(local) => {
                    for store in body.reaching(local, at) {
                        if let Op::StoreLocal { value, update: false, .. } = body.op(store) {
                            work.push((value, part));
                        }
                    }
                }
                Op::Choice { then, other, .. } => work.extend([(then, part), (other, part)]),
                Op::Either(left, right) => work.extend([(left, part), (right, part)]),
                Op::Item { base, .. } if part == Part::Whole && !is_slice(body, at) => work.push((base, Part::Element)),
                Op::Comprehension(Display::Generator, _) => {
                    work.extend(self.iterated_by(func, at).map(|over| (over, Part::View)));
                }
                Op::Call { .. } => work.extend(self.given_by(func, at, part)),
                _ => {}
            }
        }
        found
    }

    fn place_read(&self, func: FuncId, at: Val, part: Part, found: &mut SmallVec<[Escape; 2]>) {
        for slot in self.slots(func, at) {
            if let (Some(place), false) = (self.summaries.places.get(&slot), matches!(slot, Slot::Local(..))) {
                found.push(Escape { place: *place, read: at, part });
            }
        }
    }

    fn given_by(&self, func: FuncId, call: Val, part: Part) -> Option<(Val, Part)> {
        let body = self.body(func);
        let Op::Call { func: target, args } = body.op(call) else { return None };
        if let Op::Attr { base, name } = body.op(target) {
            return match name.as_str() {
                "keys" | "values" | "items" if self.may_be_dict(func, base) => Some((base, Part::View)),
                "get" | "setdefault" if part == Part::Whole => Some((base, Part::Element)),
                _ => None,
            };
        }
        let name = self.external_callee(func, call)?;
        let args = body.args(args);
        match name.as_str() {
            "iter" | "enumerate" | "reversed" | "zip" => args.first().map(|arg| (arg.value, Part::View)),
            "filter" | "map" | "itertools.chain" | "itertools.islice" => args.last().map(|arg| (arg.value, Part::View)),
            _ => None,
        }
    }

    fn may_be_dict(&self, func: FuncId, base: Val) -> bool {
        let known = self.types.of(func, base).iter().filter(|of| !matches!(of, Type::None)).count();
        known == 0
            || matches!(self.types.container(self.project, func, base), Some(Container::Dict | Container::WeakDict))
    }

    /// What the first loop of a generator expression goes over.
    fn iterated_by(&self, func: FuncId, generator: Val) -> Option<Val> {
        let body = self.body(func);
        let Op::Comprehension(_, args) = body.op(generator) else { return None };
        let element = body.args(args).first()?.value;
        let loops = body.enclosing(element).filter_map(|(_, block)| match block.kind {
            BlockKind::Loop(iter) => match body.op(iter) {
                Op::Iter { over, .. } => Some((iter, over)),
                _ => None,
            },
            _ => None,
        });
        let start = body.node(generator).start;
        loops.filter(|(iter, _)| body.node(*iter).start >= start).last().map(|(_, over)| over)
    }

    /// Is what the container holds changed in place anywhere, so that it is guarded too?
    #[must_use]
    pub fn elements_change(&self, place: PlaceId) -> bool {
        self.accesses(place).any(|access| {
            let body = self.body(access.func);
            let element = match body.op(access.act) {
                Op::Item { .. } => access.act,
                Op::Call { .. }
                    if self
                        .method_call(access.func, access.act)
                        .is_some_and(|(_, name)| matches!(name, "get" | "setdefault")) =>
                {
                    access.act
                }
                _ => return false,
            };
            self.is_changed_in_place(access.func, element)
        })
    }

    /// Is an object changed by a method or an item store, directly or under a local name?
    #[must_use]
    pub fn is_changed_in_place(&self, func: FuncId, object: Val) -> bool {
        self.changed_in_place(func, object) || self.named_and_changed(func, object)
    }

    fn changed_in_place(&self, func: FuncId, object: Val) -> bool {
        let body = self.body(func);
        if self.called_on(func, object).is_some_and(|(_, name)| mutating(name.as_str())) {
            return true;
        }
        let user = self.consumer(func, object);
        user.is_some_and(|user| match body.op(user) {
            Op::StoreItem { base, .. } | Op::DelItem { base, .. } => base == object,
            _ => false,
        })
    }

    /// `entry = table[key]`, then `entry.append(...)`
    fn named_and_changed(&self, func: FuncId, element: Val) -> bool {
        let body = self.body(func);
        body.vals()
            .skip(element.0 as usize)
            .filter(|val| matches!(body.op(*val), Op::Local(_)))
            .any(|val| body.origin(val) == element && self.changed_in_place(func, val))
    }
}

fn is_slice(body: &crate::body::Body, item: Val) -> bool {
    match body.op(item) {
        Op::Item { key, .. } => matches!(body.op(key), Op::Other(_)),
        _ => false,
    }
}
