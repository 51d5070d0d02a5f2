//! One finding for one place in one function: the rule that says most, the best site first, the others beside it.
//!
//! Findings of different rules are told apart before comments silence them, sites of one rule afterwards, so that a
//! comment speaks of its own line alone.

use std::collections::HashMap;

use facts::{Confidence, Edit, Finding, Fix, Span};

/// Rules about one state that say more than the ones after them: of several findings on one place in one function
/// the first stands for all.
const SAYS_MORE: [&str; 16] = [
    "RP105", "RP103", "RP101", "RP102", "RP203", "RP209", "RP210", "RP201", "RP208", "RP202", "RP205", "RP204",
    "RP206", "RP212", "RP211", "RP304",
];

fn rank(finding: &Finding) -> Option<usize> {
    SAYS_MORE.iter().position(|code| *code == finding.rule.code)
}

fn is_shown(finding: &Finding) -> bool {
    finding.confidence > Confidence::Low
}

/// Of findings about the same place in the same function, keeps those of the rule that says most.
#[must_use]
pub fn leave_best(found: Vec<Finding>) -> Vec<Finding> {
    let key = |finding: &Finding| (finding.span.file, finding.symbol.clone(), finding.place.clone());
    let mut best: HashMap<_, usize> = HashMap::new();
    for finding in &found {
        if let Some(rank) = rank(finding).filter(|_| is_shown(finding)) {
            let known = best.entry(key(finding)).or_insert(rank);
            *known = rank.min(*known);
        }
    }
    let stands = |finding: &Finding| match (rank(finding), best.get(&key(finding))) {
        (Some(rank), Some(best)) => rank == *best,
        _ => true,
    };
    found.into_iter().filter(stands).collect()
}

/// Of findings of one rule about the same place in the same function, one stands for all: the surest, of these the
/// first. It names the other sites, and its fix repairs them as well.
#[must_use]
pub fn join_sites(found: Vec<Finding>) -> Vec<Finding> {
    let mut joined: Vec<Finding> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for finding in found {
        if rank(&finding).is_none() || finding.place.is_empty() {
            joined.push(finding);
            continue;
        }
        let key =
            (finding.rule.code, finding.span.file, finding.symbol.clone(), finding.place.clone(), is_shown(&finding));
        match known.get(&key) {
            Some(idx) => {
                let first = std::mem::replace(&mut joined[*idx], finding.clone());
                joined[*idx] = join(first, finding);
            }
            None => {
                known.insert(key, joined.len());
                joined.push(finding);
            }
        }
    }
    joined
}

fn join(first: Finding, second: Finding) -> Finding {
    let leads = |finding: &Finding| (std::cmp::Reverse(finding.confidence), finding.span.start);
    let (mut main, other) = if leads(&second) < leads(&first) { (second, first) } else { (first, second) };
    main.fix = main.fix.zip(other.fix).map(|(one, two)| both(one, two));
    let sites = other.related.iter().filter(|related| related.message == ALSO).map(|related| related.span);
    for span in std::iter::once(other.span).chain(sites) {
        if span != main.span && main.related.iter().all(|related| related.span != span) {
            main = main.also(span, ALSO);
        }
    }
    main
}

const ALSO: &str = "the same here";

/// One fix that does what both do. Edits that cannot be made together are left for the next round: `fix` goes on
/// until the place is silent.
fn both(one: Fix, two: Fix) -> Fix {
    let fits = |edit: &Edit| one.edits.iter().all(|known| known == edit || !meets(known.span, edit.span));
    let all = two.edits.iter().all(fits);
    let new: Vec<Edit> = two.edits.into_iter().filter(|edit| all && !one.edits.contains(edit)).collect();
    let mut edits = one.edits;
    edits.extend(new);
    Fix { safety: one.safety.max(two.safety), title: one.title, edits }
}

fn meets(one: Span, two: Span) -> bool {
    one.file == two.file && one.start <= two.end && two.start <= one.end
}
