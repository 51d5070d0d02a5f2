//! What a conflict is called, and which conflicts matter most.
//!
//! In Python a single access that is out of order is safe for memory. What loses data is a write that no longer fits
//! what its thread has read, so these come first, and a value that is looked at while it may change comes last.

use std::collections::BTreeMap;

use crate::Stack;
use crate::memory::{Access, Conflict, Relation};

/// How threads get into each other's way; those in front matter most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Read, changed and written back, while another thread may write.
    LostUpdate,
    /// Two threads write, and chance says whose value stays.
    UnorderedWrites,
    /// Tested, and then done although another thread may have changed it.
    CheckThenAct,
    /// Read in one critical section and written in the next.
    SplitSection,
    /// Gone over while another thread may change its size.
    Iteration,
    /// Fields that are written together are read apart.
    TornRead,
    /// Read while another thread may write: by itself the old value or the new one.
    UnorderedRead,
}

impl Pattern {
    /// Does it lose data or raise, as far as one can see, rather than depend on what the reader does?
    #[must_use]
    pub fn is_defect(self) -> bool {
        self != Pattern::UnorderedRead
    }
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The number of the function.
    pub function: u64,
    /// Where in it.
    pub offset: u32,
}

/// What is asked of the program.
pub struct Source<'a> {
    /// The instruction of a stack that ran.
    pub site: &'a dyn Fn(Stack) -> Option<Site>,
    /// Is there a branch in the function between two instructions?
    pub branches: &'a dyn Fn(u64, u32, u32) -> bool,
}

/// A conflict, and the part of an object that it is about.
#[derive(Clone, Debug)]
pub struct Raced {
    /// The kind of object, such as a class.
    pub owner: String,
    /// The attribute, item or whole.
    pub part: String,
    /// What happened to it.
    pub conflict: Conflict,
}

/// A conflict that is told.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What it is called.
    pub pattern: Pattern,
    /// The kind of object.
    pub owner: String,
    /// The parts of it. More than one for fields that belong together.
    pub parts: Vec<String>,
    /// The accesses.
    pub conflict: Conflict,
    /// What one of the threads had read before it wrote: the access of that thread, and where it read.
    pub pair: Option<(Access, Stack)>,
}

/// What a conflict is called; nothing if it hurts nobody.
fn call(conflict: &Conflict, source: &Source<'_>) -> Option<(Pattern, Option<(Access, Stack)>)> {
    let (before, now) = (conflict.before, conflict.now);
    let pair_of = |access: &Access| pair(access, source).map(|branches| (branches, (*access, access.read)));
    if conflict.relation != Relation::Unordered {
        let (branches, pair) = pair_of(&now)?;
        let of_lock = conflict.own_read.is_some_and(|read| read.locks != 0);
        return Some(match (of_lock && now.locks != 0, branches) {
            (true, _) => (Pattern::SplitSection, Some(pair)),
            (_, true) => (Pattern::CheckThenAct, Some(pair)),
            (_, false) => (Pattern::LostUpdate, Some(pair)),
        });
    }
    if !(before.traits.writes && now.traits.writes) {
        if let Some(pair) = tested_alike(&before, &now, source) {
            return Some((Pattern::CheckThenAct, Some(pair)));
        }
        let is_step = [before, now].iter().any(|access| access.traits.writes && access.traits.is_one_step);
        return match [before, now].iter().any(|access| access.traits.iterates) {
            true if is_step => Some((Pattern::Iteration, None)),
            _ if is_step => None,
            _ => Some((Pattern::UnorderedRead, None)),
        };
    }
    let is_initial = before.traits.is_initial || now.traits.is_initial;
    let is_same = before.traits.constant != 0 && before.traits.constant == now.traits.constant;
    if let Some((branches, pair)) = pair_of(&now).or_else(|| pair_of(&before)) {
        // What is added to a container does not hurt who takes something out of it after a look, or the other way round.
        let [one, two] = [before.traits, now.traits];
        if one.is_one_step && two.is_one_step && one.method != two.method {
            return None;
        }
        // `if not self.done: self.done = True` by two threads: done once or twice, it is the same in the end; but what
        // stands beside it is done twice.
        let pattern = if branches { Pattern::CheckThenAct } else { Pattern::LostUpdate };
        return Some((pattern, Some(pair)));
    }
    match () {
        () if before.traits.is_one_step || now.traits.is_one_step => None,
        () if is_same || is_initial => Some((Pattern::UnorderedRead, None)),
        () => Some((Pattern::UnorderedWrites, None)),
    }
}

/// A write after a test, and the same test by the other thread: had that come earlier, it would have written too.
fn tested_alike(before: &Access, now: &Access, source: &Source<'_>) -> Option<(Access, Stack)> {
    let (write, read) = if before.traits.writes { (before, now) } else { (now, before) };
    let is_alike = (source.site)(write.read)? == (source.site)(read.stack)?;
    (is_alike && pair(write, source)?).then_some((*write, write.read))
}

/// Does a write depend on what its thread has read before, in the same function? With it, whether there is a branch.
fn pair(access: &Access, source: &Source<'_>) -> Option<bool> {
    if !access.traits.writes || access.read == 0 {
        return None;
    }
    let (read, write) = ((source.site)(access.read)?, (source.site)(access.stack)?);
    if read.function != write.function || read.offset >= write.offset {
        return None;
    }
    let branches = (source.branches)(read.function, read.offset, write.offset);
    // A method that changes its container in one step needs no test to be right by itself.
    (branches || !access.traits.is_one_step).then_some(branches)
}

/// Names the conflicts, leaves the most important one for each place and function, and puts those in front that matter
/// most.
#[must_use]
pub fn judge(raced: &[Raced], source: &Source<'_>) -> Vec<Judged> {
    let mut all: Vec<Judged> = raced
        .iter()
        .filter_map(|raced| {
            let (pattern, pair) = call(&raced.conflict, source)?;
            let (owner, parts, conflict) = (raced.owner.clone(), vec![raced.part.clone()], raced.conflict);
            Some(Judged { pattern, owner, parts, conflict, pair })
        })
        .collect();
    all.extend(torn(&all, source));
    all.sort_by(|a, b| (a.pattern, &a.owner, &a.parts).cmp(&(b.pattern, &b.owner, &b.parts)));
    let mut kept: Vec<Judged> = Vec::new();
    for judged in all {
        let function = |judged: &Judged| {
            let access = judged.pair.map_or(judged.conflict.now, |(access, _)| access);
            (source.site)(access.stack).map(|site| site.function)
        };
        let is_told = kept.iter().any(|other| {
            let is_same_place = other.owner == judged.owner && judged.parts.iter().all(|it| other.parts.contains(it));
            is_same_place
                && (function(other) == function(&judged) || (other.pattern.is_defect() && !judged.pattern.is_defect()))
        });
        if !is_told {
            kept.push(judged);
        }
    }
    kept
}

/// Fields of one object that one thread writes and another reads, each side in one function and without a break.
fn torn(all: &[Judged], source: &Source<'_>) -> Vec<Judged> {
    type Key = (String, u64, u64, u32, u32, u32, u32);
    let mut groups: BTreeMap<Key, Vec<&Judged>> = BTreeMap::new();
    for judged in all.iter().filter(|judged| judged.pattern == Pattern::UnorderedRead) {
        let Conflict { before, now, .. } = judged.conflict;
        let (write, read) = if before.traits.writes { (before, now) } else { (now, before) };
        let sites = ((source.site)(write.stack), (source.site)(read.stack));
        if read.traits.writes || write.traits.is_initial || write.locks != 0 && read.locks != 0 {
            continue;
        }
        if let (Some(at), Some(by)) = sites {
            let key =
                (judged.owner.clone(), at.function, by.function, write.thread, write.clock, read.thread, read.clock);
            groups.entry(key).or_default().push(judged);
        }
    }
    let mut found = Vec::new();
    for group in groups.into_values() {
        let mut parts: Vec<String> = group.iter().flat_map(|judged| judged.parts.clone()).collect();
        parts.sort();
        parts.dedup();
        if parts.len() > 1 {
            found.push(Judged { pattern: Pattern::TornRead, parts, ..group[0].clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Traits;

    fn access(thread: u32, stack: Stack, read: Stack, writes: bool) -> Access {
        Access { thread, stack, read, traits: Traits { writes, ..Traits::default() }, ..Access::default() }
    }

    fn names(conflicts: &[(&str, Access, Access)], branches: bool) -> Vec<(Pattern, usize)> {
        let raced: Vec<Raced> = conflicts
            .iter()
            .map(|(part, before, now)| Raced {
                owner: "S".into(),
                part: (*part).into(),
                conflict: Conflict { relation: Relation::Unordered, before: *before, now: *now, own_read: None },
            })
            .collect();
        let source = Source {
            site: &|stack| Some(Site { function: u64::from(stack / 100), offset: stack % 100 }),
            branches: &|_, _, _| branches,
        };
        judge(&raced, &source).iter().map(|judged| (judged.pattern, judged.parts.len())).collect()
    }

    #[test]
    fn an_update_comes_first_and_covers_its_parts() {
        let (one, two) = (access(1, 2, 1, true), access(2, 2, 1, true));
        let look = access(2, 1, 0, false);
        assert_eq!(names(&[("n", one, look), ("n", one, two)], false), [(Pattern::LostUpdate, 1)]);
        assert_eq!(names(&[("n", one, two)], true), [(Pattern::CheckThenAct, 1)]);
    }

    #[test]
    fn fields_read_apart_are_one_finding() {
        let (write, read) = (access(1, 101, 0, true), access(2, 201, 0, false));
        assert_eq!(names(&[("lo", write, read)], false), [(Pattern::UnorderedRead, 1)]);
        assert_eq!(names(&[("lo", write, read), ("hi", write, read)], false), [(Pattern::TornRead, 2)]);
    }

    #[test]
    fn the_same_test_by_both_is_a_test_then_an_act() {
        let (act, test) = (access(1, 2, 1, true), access(2, 1, 0, false));
        assert_eq!(names(&[("n", act, test)], true), [(Pattern::CheckThenAct, 1)]);
        assert_eq!(names(&[("n", access(1, 3, 2, true), test)], true), [(Pattern::UnorderedRead, 1)]);
    }

    #[test]
    fn what_is_added_does_not_hurt_who_takes_out() {
        let step =
            |access: Access, method| Access { traits: Traits { is_one_step: true, method, ..access.traits }, ..access };
        let (take, add) = (step(access(1, 2, 1, true), 1), step(access(2, 101, 0, true), 2));
        assert_eq!(names(&[("n", add, take)], true), []);
        assert_eq!(names(&[("n", take, step(access(2, 2, 1, true), 1))], true), [(Pattern::CheckThenAct, 1)]);
    }

    #[test]
    fn the_same_constant_twice_is_no_defect() {
        let constant = |access: Access| Access { traits: Traits { constant: 2, ..access.traits }, ..access };
        let (one, two) = (access(1, 1, 0, true), access(2, 1, 0, true));
        assert_eq!(names(&[("n", one, two)], false), [(Pattern::UnorderedWrites, 1)]);
        assert_eq!(names(&[("n", constant(one), constant(two))], false), [(Pattern::UnorderedRead, 1)]);
    }
}
