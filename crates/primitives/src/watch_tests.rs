//! The watch is one for the process, so each test uses locks and thread numbers of its own.

use super::*;

fn node(name: &str) -> Node {
    Node::new("Lock", Some(name), false)
}

fn site(thread: &str) -> Site {
    Site { thread: thread.to_owned(), stack: format!("stack of {thread}") }
}

/// The thread takes the locks one after the other and gives all back. Returns what the watch says.
fn takes(me: usize, nodes: &[&Node]) -> Option<Arc<Inversion>> {
    let mut found = None;
    for node in nodes {
        found = found.or(match check(node, me, true) {
            Order::New => learn(node, me, site(&format!("t{me}"))),
            Order::Reported(inversion) => Some(inversion),
            Order::SelfDeadlock => panic!("no lock is taken twice"),
            Order::Known => None,
        });
        took(node, me);
    }
    nodes.iter().rev().for_each(|node| gave(node, me));
    found
}

#[test]
fn an_inversion_has_both_stacks() {
    let (a, b) = (node("inv a"), node("inv b"));
    assert!(takes(101, &[&a, &b]).is_none());
    let found = takes(102, &[&b, &a]).expect("an inversion");
    let text: Vec<_> = found.steps.iter().map(|step| (&*step.held, &*step.taken, &*step.site.stack)).collect();
    assert_eq!(text, [("inv a", "inv b", "stack of t101"), ("inv b", "inv a", "stack of t102")]);
    assert_eq!(
        found.message(),
        "lock order inversion: t102 takes 'inv a' while it holds 'inv b', \
         but earlier t101 takes 'inv b' while it holds 'inv a'"
    );
    assert!(findings().inversions.iter().any(|other| Arc::ptr_eq(other, &found)));
    let again = takes(103, &[&b, &a]).expect("the same one");
    assert!(Arc::ptr_eq(&again, &found));
}

#[test]
fn one_order_is_no_inversion() {
    let (a, b, c) = (node("order a"), node("order b"), node("order c"));
    for me in [111, 112] {
        assert!(takes(me, &[&a, &b, &c]).is_none());
        assert!(takes(me, &[&a, &c]).is_none());
        assert!(takes(me, &[&b, &c]).is_none());
    }
}

#[test]
fn a_circle_of_three_is_found() {
    let (a, b, c) = (node("three a"), node("three b"), node("three c"));
    assert!(takes(121, &[&a, &b]).is_none());
    assert!(takes(122, &[&b, &c]).is_none());
    let found = takes(123, &[&c, &a]).expect("an inversion");
    assert_eq!(found.steps.len(), 3);
}

#[test]
fn a_common_outer_lock_keeps_two_orders_apart() {
    let (outer, a, b) = (node("gate"), node("gated a"), node("gated b"));
    assert!(takes(131, &[&outer, &a, &b]).is_none());
    assert!(takes(132, &[&outer, &b, &a]).is_none());
    assert!(takes(133, &[&b, &a]).is_some(), "the gate was missing, so it keeps nothing apart");
}

#[test]
fn locks_of_one_name_are_one_lock_to_others() {
    let (a1, a2) = (node("pool"), node("pool"));
    let b = node("registry");
    assert!(takes(151, &[&a1, &b]).is_none());
    assert!(takes(152, &[&b, &a2]).is_some());
}

#[test]
fn locks_of_one_name_are_themselves_among_each_other() {
    let (a, b, c) = (node("account"), node("account"), node("account"));
    assert!(takes(161, &[&a, &b]).is_none());
    assert!(takes(162, &[&b, &c]).is_none());
    assert!(takes(163, &[&a, &c]).is_none());
    assert!(takes(164, &[&c, &a]).is_some());
}

#[test]
fn taking_a_lock_twice_is_a_self_deadlock_unless_it_is_reentrant_or_ends() {
    let lock = node("twice");
    took(&lock, 171);
    assert!(matches!(check(&lock, 171, true), Order::SelfDeadlock));
    assert!(matches!(check(&lock, 171, false), Order::Known));
    assert!(matches!(check(&lock, 172, true), Order::Known));
    gave(&lock, 171);
    assert!(matches!(check(&lock, 171, true), Order::Known));
    let reentrant = Node::new("RLock", Some("re"), true);
    took(&reentrant, 171);
    assert!(matches!(check(&reentrant, 171, true), Order::Known));
    gave(&reentrant, 171);
}

#[test]
fn a_lock_that_is_gone_leaves_no_edges() {
    let outer = Node::new("Lock", None, false);
    let inner = Node::new("Lock", None, false);
    let ids = [outer.id, inner.id];
    let is_kept = || with(|graph| graph.edges.keys().any(|(from, to)| ids.contains(from) || ids.contains(to)));
    assert!(takes(181, &[&outer, &inner]).is_none());
    assert!(is_kept());
    drop(inner);
    assert!(!is_kept());
}

#[test]
fn a_full_graph_says_so_and_learns_no_more() {
    let mut graph = Graph {
        generation: 0,
        held: BTreeMap::new(),
        classes: BTreeMap::new(),
        edges: BTreeMap::new(),
        reported: BTreeMap::new(),
        inversions: Vec::new(),
        is_full: false,
    };
    let nodes: Vec<Node> = (0..100).map(|_| Node::new("Lock", None, false)).collect();
    let place = Arc::new(site("t"));
    for node in &nodes {
        assert!(graph.learn(node, 1, &place).is_none());
        let held = Held { id: node.id, class: node.class, label: node.label.clone() };
        graph.held.entry(1).or_default().push(held);
    }
    assert!(graph.is_full);
    assert_eq!(graph.edges.len(), EDGES_MAX);
    let later = Node::new("Lock", None, false);
    assert!(matches!(graph.check(&later, 1, true), Order::Known));
}
