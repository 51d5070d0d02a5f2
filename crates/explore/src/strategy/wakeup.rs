//! Wakeup trees: the runs that are still to be made from one point on, so that each class of equal runs is met once
//! (Abdulla, Aronis, Jonsson, Sagonas, JACM 2017).

use crate::operation::{Effect, Event, Operation, dependent};

/// Sequences of events as an ordered tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(Vec<Branch>);

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub event: Event,
    pub below: Tree,
}

/// Which sequences count as covered by an event that is, or will be, walked through at the same point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// Those that can begin with it, be it that they do not have it (weak initials). Right while no two branches of
    /// a tree cover each other.
    Weak,
    /// Those that have it and can begin with it (initials): what source sets ask for.
    Strict,
}

impl Cover {
    /// Is a run that begins with something equal to `sequence` covered by `event`?
    pub(super) fn holds(self, event: &Event, sequence: &[Event]) -> bool {
        match sequence.iter().position(|other| other.thread == event.thread) {
            Some(at) => {
                let is_same = way(event) == way(&sequence[at]);
                is_same && !sequence[..at].iter().any(|earlier| dependent(earlier, &sequence[at]))
            }
            None => self == Cover::Weak && !sequence.iter().any(|other| dependent(event, other)),
        }
    }
}

/// Ways of a choice are different events.
fn way(event: &Event) -> u32 {
    match (event.operation, event.effect) {
        (Operation::Choice { .. }, Effect::Branch(branch)) => branch,
        _ => 0,
    }
}

impl Tree {
    pub(super) fn has(&self, event: &Event) -> bool {
        self.0.iter().any(|branch| branch.event.thread == event.thread)
    }

    /// Adds a branch of one event, whatever else covers it.
    pub(super) fn add(&mut self, event: Event) {
        self.0.push(Branch { event, below: Tree::default() });
    }

    /// Takes the first branch out.
    pub(super) fn take_first(&mut self) -> Option<Branch> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Takes the branch of one way of a choice out.
    pub(super) fn take_way(&mut self, event: &Event) -> Option<Branch> {
        let is_it = |branch: &Branch| branch.event.thread == event.thread && way(&branch.event) == way(event);
        let at = self.0.iter().position(is_it)?;
        Some(self.0.remove(at))
    }

    /// Adds a sequence, unless a run that is still to be made covers it.
    pub(super) fn insert(&mut self, mut sequence: Vec<Event>, cover: Cover) {
        let mut tree = self;
        while !sequence.is_empty() {
            let Some(at) = tree.0.iter().position(|branch| cover.holds(&branch.event, &sequence)) else {
                tree.append(sequence);
                return;
            };
            let branch = &mut tree.0[at];
            if branch.below.0.is_empty() {
                return;
            }
            if let Some(own) = sequence.iter().position(|event| event.thread == branch.event.thread) {
                sequence.remove(own);
            }
            tree = &mut branch.below;
        }
    }

    fn append(&mut self, sequence: Vec<Event>) {
        let mut below = Tree::default();
        for event in sequence.into_iter().rev() {
            below = Tree(vec![Branch { event, below }]);
        }
        self.0.append(&mut below.0);
    }
}
