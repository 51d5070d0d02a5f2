//! Random programs: what DPOR finds against what a walk through all states finds, and how many runs it needs for it.

use std::collections::HashSet;

use explore::engine::Limits;
use explore::strategy::{Coverage, Kind};
use explore::{After, Explorer};

use crate::brute;
use crate::generate::{Flavour, program};
use crate::model::{Program, Values, run};

pub fn limits() -> Limits {
    // Programs without loops do not spin; reading the same place five times in a row must not look like it.
    Limits { runs_max: u64::MAX, spins_max: 1_000, ..Limits::default() }
}

/// What an exploration of all runs finds.
pub struct Found {
    pub outcomes: HashSet<Values>,
    pub executions: u64,
    pub redundant: u64,
    pub traces: u64,
    pub coverage: Coverage,
}

/// All outcomes that a strategy meets within a number of runs; `None` if it is not done by then.
pub fn all(program: &Program, kind: Kind, runs_max: u64) -> Option<Found> {
    let limits = Limits { runs_max, ..limits() };
    let mut explorer = Explorer::new(kind, limits, 1).collecting().counting_traces();
    let mut outcomes = HashSet::new();
    loop {
        let values = run(program, &mut explorer);
        if explorer.trace().end != explore::trace::End::Redundant {
            outcomes.insert(values);
        }
        if let After::Done(outcome) = explorer.end(None) {
            let certificate = outcome.certificate;
            return (certificate.coverage != Coverage::Sample).then(|| Found {
                outcomes,
                executions: certificate.executions,
                redundant: certificate.redundant,
                traces: certificate.traces.expect("counted"),
                coverage: certificate.coverage,
            });
        }
    }
}

fn n_programs() -> u64 {
    std::env::var("RACEPROOF_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// Compares `n` programs; prints the sums.
fn compare(flavour: Flavour, n: u64, first_seed: u64) {
    let (mut executions, mut traces, mut redundant, mut n_exact, mut n_compared) = (0, 0, 0, 0, 0);
    let mut n_worse = 0;
    for seed in first_seed..first_seed + n {
        let program = program(seed, flavour);
        let Some(expected) = brute::outcomes(&program, 200_000) else { continue };
        let Some(found) = all(&program, Kind::Dpor, 20_000) else { continue };
        n_compared += 1;
        let missed: Vec<_> = expected.difference(&found.outcomes).collect();
        let invented: Vec<_> = found.outcomes.difference(&expected).collect();
        assert!(
            missed.is_empty() && invented.is_empty(),
            "seed {seed}, {flavour:?}: missed {missed:?}, invented {invented:?}\n{program:#?}"
        );
        assert_eq!(found.coverage, Coverage::All);
        executions += found.executions;
        traces += found.traces;
        redundant += found.redundant;
        n_worse += u64::from(found.executions > found.traces);
        // An unreduced walk through all runs, where it is small enough, knows how many traces there are.
        if let Some(exact) = all(&program, Kind::Dfs(None), 3_000) {
            assert_eq!(exact.traces, found.traces, "seed {seed}, {flavour:?}: {program:#?}");
            assert_eq!(exact.outcomes, expected, "seed {seed}");
            n_exact += 1;
        }
    }
    let ratio = executions as f64 / traces as f64;
    println!(
        "{flavour:?}: {n_compared} of {n} programs, 0 missed; {executions} runs ({redundant} broken off) for {traces} \
         traces, ratio {ratio:.4}, {n_worse} programs above 1; {n_exact} counted exactly"
    );
    assert!(n_compared * 100 >= n * 95, "too many programs are too big to compare");
}

#[test]
fn no_outcome_is_missed_with_locks_tries_branches_and_joins() {
    compare(Flavour::Locks, n_programs(), 0);
}

#[test]
fn no_outcome_is_missed_with_conditions() {
    compare(Flavour::Conditions, n_programs(), 1_000_000);
}

#[test]
fn no_outcome_is_missed_with_timeouts() {
    compare(Flavour::Timeouts, n_programs(), 2_000_000);
}

#[test]
fn no_outcome_is_missed_with_shared_locks_choices_and_started_threads() {
    compare(Flavour::All, n_programs(), 3_000_000);
}

#[test]
fn programs_that_were_wrong_once() {
    // Threads that cannot run at once where a race is turned round; timed waits that end without their lock.
    for (flavour, seed) in [
        (Flavour::Conditions, 1_005_913),
        (Flavour::Locks, 3_497),
        (Flavour::All, 3_000_482),
        (Flavour::All, 3_000_632),
        (Flavour::Timeouts, 2_003_344),
    ] {
        compare(flavour, 1, seed);
    }
}
