//! The lock-order watch: learns in which order threads take locks, and reports an order that contradicts an earlier one
//! before the thread waits. No thread needs to be stuck, or even to run at the same time.
//!
//! It keeps a graph: an edge from A to B says that a thread took B while it held A, with the place where it did so. An
//! acquisition that would close a circle is an [`Inversion`], unless its steps were always taken under a common outer
//! lock, which keeps them apart. Locks of the same name are one node, since they are taken by the same code, except
//! among each other, where each is its own node. Only waits that may last count: an attempt without waiting closes no
//! circle.
//!
//! The memory is bounded: [`EDGES_MAX`] edges, [`INVERSIONS_MAX`] inversions. A graph that is full learns no more, and
//! says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::raw::fork;
use crate::raw::guarded::Guarded;

/// How many edges are kept.
pub const EDGES_MAX: usize = 4096;
/// How many inversions are kept.
pub const INVERSIONS_MAX: usize = 128;
/// How many outer locks of an edge are kept.
const OUTER_MAX: usize = 8;

/// Where a thread takes a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The name of the thread.
    pub thread: String,
    /// Its stack, as text.
    pub stack: String,
}

/// A step of a circle: a thread that held one lock took another.
#[derive(Clone, Debug)]
pub struct Step {
    /// The lock that it held.
    pub held: String,
    /// The lock that it took.
    pub taken: String,
    /// Where.
    pub site: Arc<Site>,
}

/// Steps that contradict each other: each begins with the lock that the one before took. The last is the one that was
/// about to be made when this was found.
#[derive(Clone, Debug)]
pub struct Inversion {
    /// At least two.
    pub steps: Vec<Step>,
}

/// A lock as the watch knows it.
pub struct Node {
    /// Of this lock alone. Never used again.
    id: u64,
    /// Of all locks with this name; the same as `id` for a lock without one.
    class: u64,
    /// How it is called in reports.
    label: Arc<str>,
    is_reentrant: bool,
}

/// What is to be said about a thread that is about to take a lock.
pub enum Order {
    /// Nothing new.
    Known,
    /// It takes locks in an order that is not known yet: [`learn`] it, with the place.
    New,
    /// It holds the lock already, and would wait for itself.
    SelfDeadlock,
    /// This order was reported before.
    Reported(Arc<Inversion>),
}

struct Edge {
    held: Arc<str>,
    taken: Arc<str>,
    site: Arc<Site>,
    /// The locks that were held as well, each time that this step was made.
    outer: BTreeSet<u64>,
}

#[derive(Clone)]
struct Held {
    id: u64,
    class: u64,
    label: Arc<str>,
}

type Key = (u64, u64);

struct Graph {
    generation: u32,
    held: BTreeMap<usize, Vec<Held>>,
    classes: BTreeMap<Arc<str>, u64>,
    edges: BTreeMap<Key, Edge>,
    reported: BTreeMap<Key, Arc<Inversion>>,
    inversions: Vec<Arc<Inversion>>,
    is_full: bool,
}

static GRAPH: Guarded<Graph> = Guarded::new(Graph {
    generation: 0,
    held: BTreeMap::new(),
    classes: BTreeMap::new(),
    edges: BTreeMap::new(),
    reported: BTreeMap::new(),
    inversions: Vec::new(),
    is_full: false,
});

fn with<R>(work: impl FnOnce(&mut Graph) -> R) -> R {
    GRAPH.with(|graph| {
        if graph.generation != fork::generation() {
            let then = graph.generation;
            graph.held.retain(|thread, _| fork::is_alive(then, *thread));
            graph.generation = fork::generation();
        }
        work(graph)
    })
}

impl Node {
    /// A lock that was not seen before.
    pub fn new(kind: &str, name: Option<&str>, is_reentrant: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let label: Arc<str> = name.map_or_else(|| format!("{kind} {id}").into(), Arc::from);
        let class = name.map_or(id, |_| with(|graph| graph.class(&label, id)));
        Node { id, class, label, is_reentrant }
    }

    /// How it is called in reports.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        with(|graph| graph.forget(self));
    }
}

/// What is to be said about the thread `me` if it waits for this lock now. `is_endless` says that the wait has no
/// deadline.
pub fn check(node: &Node, me: usize, is_endless: bool) -> Order {
    with(|graph| graph.check(node, me, is_endless))
}

/// Learns the order in which the thread `me` takes this lock now, or returns what contradicts it.
pub fn learn(node: &Node, me: usize, site: Site) -> Option<Arc<Inversion>> {
    let site = Arc::new(site);
    with(|graph| graph.learn(node, me, &site))
}

/// The thread `me` has taken this lock.
pub fn took(node: &Node, me: usize) {
    let held = Held { id: node.id, class: node.class, label: node.label.clone() };
    with(|graph| graph.held.entry(me).or_default().push(held));
}

/// The lock is given back; `holder` took it.
pub fn gave(node: &Node, holder: usize) {
    with(|graph| graph.gave(node.id, holder));
}

/// What was found since the last [`clear`].
#[derive(Clone, Default)]
pub struct Findings {
    /// Each order that was wrong, once.
    pub inversions: Vec<Arc<Inversion>>,
    /// How many edges the graph has.
    pub n_edges: usize,
    /// It learns no more.
    pub is_full: bool,
}

/// What was found up to now.
pub fn findings() -> Findings {
    with(|graph| Findings { inversions: graph.inversions.clone(), n_edges: graph.edges.len(), is_full: graph.is_full })
}

/// Forgets the orders that were learnt and what was found.
pub fn clear() {
    // What is taken out is dropped outside of the section: that is much work.
    drop(with(|graph| {
        graph.is_full = false;
        let found = (std::mem::take(&mut graph.reported), std::mem::take(&mut graph.inversions));
        (std::mem::take(&mut graph.edges), found)
    }));
}

/// The edge from one lock to another: between names, or between locks of the same name.
fn key(held: &Held, node: &Node) -> Key {
    if held.class == node.class { (held.id, node.id) } else { (held.class, node.class) }
}

impl Graph {
    fn class(&mut self, name: &Arc<str>, id: u64) -> u64 {
        match self.classes.get(name) {
            Some(class) => *class,
            // A program that makes up a name for each lock gets a node for each.
            None if self.classes.len() >= EDGES_MAX => id,
            None => {
                self.classes.insert(name.clone(), id);
                id
            }
        }
    }

    fn forget(&mut self, node: &Node) {
        let id = node.id;
        if self.classes.get(&node.label) == Some(&id) {
            return; // It stands for the name from now on.
        }
        self.edges.retain(|(from, to), _| *from != id && *to != id);
        self.reported.retain(|(from, to), _| *from != id && *to != id);
    }

    fn held_by(&self, me: usize) -> &[Held] {
        self.held.get(&me).map_or(&[], Vec::as_slice)
    }

    /// The locks other than these two that the thread holds.
    fn outer(&self, me: usize, held: &Held, node: &Node) -> BTreeSet<u64> {
        let others = self.held_by(me).iter().filter(|other| other.id != held.id && other.id != node.id);
        others.map(|other| other.class).take(OUTER_MAX).collect()
    }

    fn check(&self, node: &Node, me: usize, is_endless: bool) -> Order {
        let mine = self.held_by(me);
        if mine.iter().any(|held| held.id == node.id) {
            return if node.is_reentrant || !is_endless { Order::Known } else { Order::SelfDeadlock };
        }
        let mut order = Order::Known;
        for held in mine {
            let key = key(held, node);
            if let Some(inversion) = self.reported.get(&key) {
                return Order::Reported(inversion.clone());
            }
            let is_known = match self.edges.get(&key) {
                Some(edge) => edge.outer.is_empty() || edge.outer.is_subset(&self.outer(me, held, node)),
                None => self.is_full,
            };
            if !is_known {
                order = Order::New;
            }
        }
        order
    }

    fn learn(&mut self, node: &Node, me: usize, site: &Arc<Site>) -> Option<Arc<Inversion>> {
        for held in self.held_by(me).to_vec() {
            let key = key(&held, node);
            let mut outer = self.outer(me, &held, node);
            if let Some(edge) = self.edges.get(&key) {
                outer = edge.outer.intersection(&outer).copied().collect();
                if outer.len() == edge.outer.len() {
                    continue;
                }
            }
            if let Some(path) = self.path(key.1, key.0, &outer) {
                let mut steps: Vec<Step> = path.iter().map(|key| self.edges[key].step()).collect();
                let (held, taken) = (held.label.to_string(), node.label.to_string());
                steps.push(Step { held, taken, site: site.clone() });
                return Some(self.report(key, Inversion { steps }));
            }
            if self.edges.len() >= EDGES_MAX && !self.edges.contains_key(&key) {
                self.is_full = true;
                continue;
            }
            let edge = Edge { held: held.label, taken: node.label.clone(), site: site.clone(), outer };
            self.edges.insert(key, edge);
        }
        None
    }

    fn report(&mut self, key: Key, inversion: Inversion) -> Arc<Inversion> {
        let inversion = Arc::new(inversion);
        self.edges.remove(&key);
        if self.inversions.len() < INVERSIONS_MAX {
            self.inversions.push(inversion.clone());
            self.reported.insert(key, inversion.clone());
        }
        inversion
    }

    /// The edges of a way from one lock to another on which no two steps, nor a step and the one that would close the
    /// circle, have an outer lock in common.
    fn path(&self, from: u64, to: u64, outer: &BTreeSet<u64>) -> Option<Vec<Key>> {
        let mut seen = BTreeSet::from([from]);
        let mut open: Vec<(Vec<Key>, BTreeSet<u64>)> = vec![(Vec::new(), outer.clone())];
        while let Some((way, guards)) = open.pop() {
            let at = way.last().map_or(from, |(_, end)| *end);
            for (key, edge) in self.edges.range((at, 0)..=(at, u64::MAX)) {
                if !edge.outer.is_disjoint(&guards) {
                    continue;
                }
                let longer = way.iter().copied().chain([*key]).collect();
                if key.1 == to {
                    return Some(longer);
                }
                if seen.insert(key.1) {
                    open.push((longer, guards.union(&edge.outer).copied().collect()));
                }
            }
        }
        None
    }

    fn gave(&mut self, id: u64, holder: usize) {
        let Some(held) = self.held.get_mut(&holder) else {
            return;
        };
        if let Some(at) = held.iter().rposition(|held| held.id == id) {
            held.remove(at);
        }
        if held.is_empty() {
            self.held.remove(&holder);
        }
    }
}

impl Edge {
    fn step(&self) -> Step {
        Step { held: self.held.to_string(), taken: self.taken.to_string(), site: self.site.clone() }
    }
}

impl Inversion {
    /// One sentence for each step.
    pub fn message(&self) -> String {
        let says = |step: &Step| format!("{} takes '{}' while it holds '{}'", step.site.thread, step.taken, step.held);
        let (now, before) = self.steps.split_last().expect("at least two steps");
        let before: Vec<String> = before.iter().map(says).collect();
        format!("lock order inversion: {}, but earlier {}", says(now), before.join(", and "))
    }
}

#[cfg(all(test, not(feature = "model")))]
#[path = "watch_tests.rs"]
mod tests;
