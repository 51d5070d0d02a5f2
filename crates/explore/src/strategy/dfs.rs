//! All orders, depth first, with or without a bound on preemptions (Musuvathi and Qadeer, PLDI 2007).
//!
//! Bound 0 is all serial orders and all switches where a thread blocks. The certificate is honest: if the bound cut
//! nothing off, all has been seen; otherwise all runs within the bound.

use super::{Coverage, Point, Progress, Strategy};
use crate::trace::{Pick, Trace};

#[derive(Clone, Debug)]
struct Node {
    picks: Vec<Pick>,
    /// The one that is being walked through.
    at: usize,
    /// Preemptions up to here, this one included.
    n_preemptions: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Dfs {
    bound: Option<u32>,
    /// Is a thread stopped only where the search is aimed at?
    is_aimed: bool,
    path: Vec<Node>,
    has_cut: bool,
    is_done: bool,
}

impl Dfs {
    /// With at most `bound` preemptions in a run.
    #[must_use]
    pub fn new(bound: Option<u32>) -> Self {
        Self { bound, is_aimed: false, path: Vec::new(), has_cut: false, is_done: false }
    }

    /// With at most `bound` preemptions in a run, all of them at points that the search is aimed at. What it covers is
    /// a sample.
    #[must_use]
    pub fn aimed(bound: u32) -> Self {
        Self { is_aimed: true, ..Self::new(Some(bound)) }
    }

    fn node(&mut self, point: &Point<'_>) -> Node {
        let first = point.default_thread();
        let spent = self.path.last().map_or(0, |node| node.n_preemptions);
        // Only a thread that could have gone on, and wanted to, is preempted.
        let willing = point.willing();
        let current = point.current().filter(|current| willing.contains(*current));
        let mut picks = Vec::new();
        let others = point.enabled.iter().filter(|thread| *thread != first);
        for thread in std::iter::once(first).chain(others) {
            let is_preemption = current.is_some_and(|current| current != thread);
            let is_beside = self.is_aimed && current.is_some_and(|current| !point.is_aimed(current));
            if is_preemption && (is_beside || self.bound.is_some_and(|bound| spent >= bound)) {
                self.has_cut = true;
                continue;
            }
            picks.extend((0..point.n_branches(thread)).map(|branch| Pick { thread, branch }));
        }
        let mut node = Node { picks, at: 0, n_preemptions: spent };
        node.n_preemptions = preemptions(&node, current, spent);
        node
    }
}

fn preemptions(node: &Node, current: Option<crate::operation::ThreadId>, spent: u32) -> u32 {
    let thread = node.picks[node.at].thread;
    spent + u32::from(current.is_some_and(|current| current != thread))
}

impl Strategy for Dfs {
    fn choose(&mut self, point: &Point<'_>) -> Option<Pick> {
        let step = point.step();
        if step == self.path.len() {
            let node = self.node(point);
            self.path.push(node);
        } else if step + 1 == self.path.len() && self.path[step].at > 0 {
            let spent = if step == 0 { 0 } else { self.path[step - 1].n_preemptions };
            let willing = point.willing();
            let current = point.current().filter(|current| willing.contains(*current));
            self.path[step].n_preemptions = preemptions(&self.path[step], current, spent);
        }
        let pick = *self.path[step].picks.get(self.path[step].at)?;
        // A program that is not the same in every run must not break the search: it is told by who drives it.
        point.enabled.contains(pick.thread).then_some(pick)
    }

    fn learn(&mut self, _trace: &Trace) -> Progress {
        while let Some(node) = self.path.last_mut() {
            node.at += 1;
            if node.at < node.picks.len() {
                return Progress::More;
            }
            self.path.pop();
        }
        self.is_done = true;
        Progress::Done
    }

    fn coverage(&self) -> Coverage {
        match self.bound {
            _ if !self.is_done || self.is_aimed => Coverage::Sample,
            Some(bound) if self.has_cut => Coverage::Preemptions(bound),
            _ => Coverage::All,
        }
    }
}
