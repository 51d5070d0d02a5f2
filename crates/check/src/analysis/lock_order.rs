//! The lock graph of the whole program: which lock is taken while which other is held, and its cycles.

use std::collections::BTreeMap;

use facts::{Confidence, LockSet, PlaceId, cycle};

use super::{Analysis, is_explicit};
use crate::project::FuncId;
use crate::summary::{Effect, Held, What};

/// How many witnesses one edge keeps.
const WITNESSES_MAX: usize = 64;

/// One place where the second lock of an edge is taken while the first is held.
pub struct Witness<'a> {
    /// The function that holds the first.
    pub func: FuncId,
    /// The stretch.
    pub held: &'a Held,
    /// How the second is taken.
    pub effect: Effect,
    /// What else is held at that time.
    pub outer: LockSet,
}

/// An edge: the second lock is taken while the first is held.
pub struct Edge<'a> {
    /// The first lock.
    pub from: PlaceId,
    /// The second lock.
    pub to: PlaceId,
    /// Where: one for each function that takes the locks in this order, the best first.
    pub witnesses: Vec<Witness<'a>>,
}

/// Locks that are taken in a circle by threads that can run at once.
pub struct Cycle<'a> {
    /// Its edges: that which the fewest functions make first, of equals in order of their inner acquisitions.
    pub edges: Vec<Edge<'a>>,
    /// How sure it is that they meet.
    pub confidence: Confidence,
}

impl<'a> Analysis<'a> {
    /// The cycles of the lock graph: all of two locks, and one of each part that has only longer ones.
    #[must_use]
    pub fn lock_cycles(&self) -> Vec<Cycle<'a>> {
        let mut graph = self.lock_graph();
        let mut nodes: Vec<PlaceId> = graph.keys().flat_map(|(from, to)| [*from, *to]).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let index = |place: PlaceId| nodes.binary_search(&place).expect("a node of the graph");
        let mut successors: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
        for (from, to) in graph.keys() {
            successors[index(*from)].push(crate::project::as_u32(index(*to)));
        }
        let mut found = Vec::new();
        for part in cycle::components(nodes.len(), |node| &successors[node]) {
            if part.len() < 2 {
                continue;
            }
            let mut circles: Vec<Vec<u32>> = Vec::new();
            for one in &part {
                let back = successors[*one as usize].iter().filter(|two| **two > *one);
                circles.extend(back.filter(|two| successors[**two as usize].contains(one)).map(|two| vec![*one, *two]));
            }
            if circles.is_empty() {
                circles.extend(part.iter().filter_map(|from| shortest(*from, &part, &successors)).min_by_key(Vec::len));
            }
            for circle in circles {
                let places: Vec<PlaceId> = circle.iter().map(|node| nodes[*node as usize]).collect();
                found.extend(self.real_cycle(&places, &mut graph));
            }
        }
        found
    }

    fn lock_graph(&self) -> BTreeMap<(PlaceId, PlaceId), Vec<Witness<'a>>> {
        let mut graph: BTreeMap<(PlaceId, PlaceId), Vec<Witness<'a>>> = BTreeMap::new();
        for under in self.under_locks() {
            let from = under.held.lock.place;
            if !self.is_typed_lock(from) || self.is_test(under.func) || self.is_owned_by_maker(under.func) {
                continue;
            }
            for effect in under.effects {
                let What::Takes { place: to, .. } = effect.what else { continue };
                if to == from || !self.is_typed_lock(to) {
                    continue;
                }
                // A test of a parameter decides: `if lock: ...` is how helpers are told that it is held already.
                if effect.depends && effect.via.is_some() {
                    continue;
                }
                let here = self.summaries.locks_at(under.func, effect.at);
                let outer = here.union(&effect.under);
                let outer = outer.iter().filter(|lock| lock.place != from && lock.place != to).collect();
                // Taken already, further out: it is not waited for here.
                if here.holds(to) {
                    continue;
                }
                let known = graph.entry((from, to)).or_default();
                let twin = known.iter().any(|other| other.func == under.func && other.effect.at == effect.at);
                if known.len() < WITNESSES_MAX && !twin {
                    known.push(Witness { func: under.func, held: under.held, effect, outer });
                }
            }
        }
        graph
    }

    /// Keeps the witnesses that can meet; `None` where some edge has none.
    fn real_cycle(
        &self,
        places: &[PlaceId],
        graph: &mut BTreeMap<(PlaceId, PlaceId), Vec<Witness<'a>>>,
    ) -> Option<Cycle<'a>> {
        let n = places.len();
        let pairs: Vec<(PlaceId, PlaceId)> = (0..n).map(|idx| (places[idx], places[(idx + 1) % n])).collect();
        let mut kept: Vec<Vec<usize>> = pairs.iter().map(|pair| (0..graph[pair].len()).collect()).collect();
        let mut sure = false;
        for idx in 0..n {
            let other = (idx + 1) % n;
            let (ours, theirs) = (&graph[&pairs[idx]], &graph[&pairs[other]]);
            let meets = |one: &Witness<'_>, two: &Witness<'_>| {
                one.outer.intersection(&two.outer).is_empty() && self.may_overlap(one.func, two.func).is_some()
            };
            let keep: Vec<usize> = kept[idx]
                .iter()
                .copied()
                .filter(|one| kept[other].iter().any(|two| meets(&ours[*one], &theirs[*two])))
                .collect();
            sure |= keep.iter().any(|one| {
                kept[other].iter().any(|two| {
                    let (one, two) = (&ours[*one], &theirs[*two]);
                    one.effect.sure && two.effect.sure && self.may_overlap(one.func, two.func) == Some(true)
                })
            });
            kept[idx] = keep;
        }
        if kept.iter().any(Vec::is_empty) {
            return None;
        }
        let mut edges: Vec<Edge<'a>> = Vec::new();
        for (pair, keep) in pairs.iter().zip(kept) {
            let all = graph.remove(pair)?;
            let mut witnesses: Vec<Witness<'a>> =
                all.into_iter().enumerate().filter(|(idx, _)| keep.contains(idx)).map(|(_, witness)| witness).collect();
            // Plain calls first, then those of a thread that the program itself starts, then the shortest way.
            witnesses.sort_by_cached_key(|witness| {
                let way = self.way(witness.func, &witness.effect).len();
                let mut threads = self.threads_of(witness.func).into_iter();
                let started = threads.any(|group| is_explicit(self.contexts.groups[group].kind));
                (!witness.effect.sure, !started, way, self.text_order(witness))
            });
            let mut seen: Vec<FuncId> = Vec::new();
            witnesses.retain(|witness| {
                !seen.contains(&witness.func) && {
                    seen.push(witness.func);
                    true
                }
            });
            edges.push(Edge { from: pair.0, to: pair.1, witnesses });
        }
        edges.sort_by_key(|edge| (edge.witnesses.len(), self.text_order(&edge.witnesses[0])));
        let guesses = edges.iter().filter(|edge| edge.witnesses.iter().all(|witness| !witness.effect.sure)).count();
        let confidence = match guesses {
            0 if sure => Confidence::High,
            0 | 1 => Confidence::Medium,
            _ => Confidence::Low,
        };
        Some(Cycle { edges, confidence })
    }

    /// By the text of the inner acquisition.
    fn text_order(&self, witness: &Witness<'_>) -> (String, u32) {
        let span = self.span(witness.effect.end.0, witness.effect.end.1);
        (self.files.get(span.file).path.clone(), span.start)
    }
}

/// The shortest way around from a node, within its part.
fn shortest(from: u32, part: &[u32], successors: &[Vec<u32>]) -> Option<Vec<u32>> {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    let mut work = std::collections::VecDeque::from([from]);
    while let Some(node) = work.pop_front() {
        for next in &successors[node as usize] {
            if *next == from {
                let mut way = vec![node];
                let mut at = node;
                while at != from {
                    at = parents[&at];
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            if part.contains(next) && !parents.contains_key(next) {
                parents.insert(*next, node);
                work.push_back(*next);
            }
        }
    }
    None
}
