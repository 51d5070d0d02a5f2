//! Programs that fail: each strategy finds the failure, each schedule replays it every time, the explanation names
//! the pattern; and correct programs, which are proved or honestly not.

use explore::engine::Limits;
use explore::explain::Pattern;
use explore::judge::Failure;
use explore::outcome::{Outcome, Reason, Verdict};
use explore::strategy::{Coverage, Kind};
use explore::trace::Trace;
use explore::{Explorer, schedule::Schedule};

use crate::model::{Instruction as I, Program, Source, Values, explore};

const ALL: [Kind; 8] =
    [Kind::Auto, Kind::Random, Kind::Pct(2), Kind::Pct(3), Kind::Pos, Kind::Dfs(None), Kind::Dfs(Some(2)), Kind::Dpor];

fn read(place: u32, register: usize) -> I {
    I::Read { place, register }
}

fn write(place: u32, value: i32) -> I {
    I::Write { place, source: Source::Constant(value) }
}

fn put(place: u32, register: usize) -> I {
    I::Write { place, source: Source::Register(register, 1) }
}

fn lock(lock: u32) -> I {
    I::Lock { lock }
}

fn unlock(lock: u32) -> I {
    I::Unlock { lock }
}

struct Case {
    name: &'static str,
    program: Program,
    holds: fn(&Values) -> bool,
    pattern: Pattern,
    /// Switches of the shortest run that fails.
    n_switches: usize,
}

fn cases() -> Vec<Case> {
    let increment = vec![read(0, 0), put(0, 0)];
    let noise = |mut code: Vec<I>| {
        let noise = [I::Add { place: 9, n: 1, register: 3 }, I::Add { place: 9, n: 1, register: 3 }];
        code.splice(0..0, noise);
        code.extend(noise);
        code
    };
    let ring = |first: u32, second: u32| vec![lock(first), lock(second), unlock(second), unlock(first)];
    let check = vec![
        read(0, 0),
        I::JumpUnless { register: 0, value: 0, to: 4 },
        write(0, 1),
        I::Add { place: 1, n: 1, register: 3 },
    ];
    vec![
        Case {
            name: "increment",
            program: Program::new(10, vec![noise(increment.clone()), noise(increment.clone()), noise(increment)]),
            holds: |values| values.places[0] == 3,
            pattern: Pattern::LostUpdate,
            n_switches: 3,
        },
        Case {
            name: "abba",
            program: Program::new(1, vec![ring(0, 1), ring(1, 0)]),
            holds: |_| true,
            pattern: Pattern::AbbaCycle,
            n_switches: 1,
        },
        Case {
            name: "itself",
            program: Program::new(1, vec![vec![lock(0), lock(0)], vec![lock(0), unlock(0)]]),
            holds: |_| true,
            pattern: Pattern::SelfDeadlock,
            n_switches: 0,
        },
        Case {
            name: "wake-up",
            program: Program::new(
                1,
                vec![
                    vec![lock(0), I::Wait { condition: 5, lock: 0 }, unlock(0)],
                    vec![lock(0), I::Notify { condition: 5, count: 1 }, unlock(0)],
                ],
            ),
            holds: |_| true,
            pattern: Pattern::MissedWakeUp,
            n_switches: 1,
        },
        Case {
            name: "torn",
            program: Program::new(2, vec![vec![write(0, 1), write(1, 1)], vec![read(0, 0), read(1, 1)]]),
            holds: |values| values.registers[1][0] == values.registers[1][1],
            pattern: Pattern::TornRead,
            n_switches: 2,
        },
        Case {
            name: "check",
            program: Program::new(2, vec![check.clone(), check]),
            holds: |values| values.places[1] == 1,
            pattern: Pattern::LostUpdate,
            n_switches: 2,
        },
    ]
}

fn explorer(kind: Kind, seed: u64) -> Explorer {
    Explorer::new(kind, Limits { runs_max: 20_000, ..Limits::default() }, seed)
}

fn judged(program: &Program, kind: Kind, seed: u64, holds: fn(&Values) -> bool) -> Outcome {
    explore(program, explorer(kind, seed), |values, _: &Trace| holds(values))
}

#[test]
fn every_failure_is_found_and_replays_every_time() {
    for case in cases() {
        for kind in ALL {
            let outcome = judged(&case.program, kind, 7, case.holds);
            let Verdict::Failed(failure) = &outcome.verdict else {
                panic!("{} by {kind}: {:?}", case.name, outcome.verdict)
            };
            let explanation = outcome.explanation.expect("an explanation");
            assert_eq!(explanation.pattern, case.pattern, "{} by {kind}: {:#?}", case.name, explanation.decisive);
            assert!(
                explanation.trace.n_switches() <= case.n_switches + 1,
                "{} by {kind}: {:?}",
                case.name,
                outcome.schedule
            );
            let text = outcome.schedule.expect("a schedule");
            for _ in 0..1_000 {
                let again = Explorer::replay(&text, Limits::default()).expect("a schedule");
                let again = explore_quickly(&case.program, again, case.holds);
                assert!(
                    matches!(&again.verdict, Verdict::Failed(other) if other.is_like(failure)),
                    "{} by {kind}: {text} gives {:?}",
                    case.name,
                    again.verdict
                );
            }
        }
    }
}

/// Without names: the labels of a parsed schedule must then be those of the program, so they are interned first.
fn explore_quickly(program: &Program, explorer: Explorer, holds: fn(&Values) -> bool) -> Outcome {
    explore(program, explorer, |values, _: &Trace| holds(values))
}

#[test]
fn the_shortest_runs() {
    for case in cases() {
        let outcome = judged(&case.program, Kind::Random, 3, case.holds);
        let explanation = outcome.explanation.expect("an explanation");
        assert_eq!(explanation.trace.n_switches(), case.n_switches, "{}: {:?}", case.name, outcome.schedule);
        println!("{}: {} {:?}", case.name, outcome.schedule.unwrap_or_default(), explanation.decisive);
    }
}

#[test]
fn a_correct_program_is_proved() {
    let increment = || vec![lock(0), read(0, 0), put(0, 0), unlock(0)];
    let program = Program::new(1, vec![increment(), increment(), increment()]);
    for kind in [Kind::Auto, Kind::Dfs(None), Kind::Dpor] {
        let outcome = judged(&program, kind, 1, |values| values.places[0] == 3);
        assert_eq!(outcome.verdict, Verdict::Proved, "{kind}");
        assert_eq!(outcome.certificate.coverage, Coverage::All);
    }
    let outcome = judged(&program, Kind::Dfs(Some(1)), 1, |values| values.places[0] == 3);
    assert_eq!(outcome.verdict, Verdict::NothingFound);
    assert_eq!(outcome.certificate.coverage, Coverage::Preemptions(1));
    let outcome = judged(&program, Kind::Random, 1, |values| values.places[0] == 3);
    assert_eq!(outcome.verdict, Verdict::NothingFound);
}

#[test]
fn what_was_not_tracked_is_not_proved() {
    let program = Program::new(1, vec![vec![write(0, 1)], vec![read(0, 0)]]);
    let mut explorer = explorer(Kind::Dpor, 1);
    explorer.untracked("a lock of the standard library");
    let outcome = explore(&program, explorer, |_, _| true);
    assert_eq!(outcome.verdict, Verdict::NothingFound);
    assert_eq!(outcome.certificate.untracked, ["a lock of the standard library"]);
}

#[test]
fn nothing_shared_is_never_a_pass() {
    let program = Program::new(2, vec![vec![write(0, 1)], vec![write(1, 1)]]);
    for kind in ALL {
        let outcome = judged(&program, kind, 1, |_| true);
        assert_eq!(outcome.verdict, Verdict::GaveUp(Reason::Vacuous), "{kind}");
    }
}

#[test]
fn a_spin_ends_when_another_acts_and_is_a_livelock_if_nobody_can() {
    let spin = vec![read(0, 0), I::JumpUnless { register: 0, value: 0, to: 4 }, I::Yield, I::Jump { to: 0 }];
    let waited_for = Program::new(1, vec![spin.clone(), vec![write(0, 1)]]);
    for kind in ALL {
        let outcome = judged(&waited_for, kind, 1, |_| true);
        assert_eq!(outcome.verdict, Verdict::NothingFound, "{kind}");
        if kind == Kind::Dpor {
            assert!(outcome.certificate.spins.is_some());
        }
    }
    let in_vain = Program::new(1, vec![spin, vec![write(0, 0)]]);
    for kind in ALL {
        let outcome = judged(&in_vain, kind, 1, |_| true);
        assert_eq!(outcome.verdict, Verdict::Failed(Failure::Livelock), "{kind}");
    }
}

#[test]
fn races_are_reported_where_asked_for() {
    let racy = Program::new(1, vec![vec![write(0, 1)], vec![read(0, 0)]]);
    let guarded = Program::new(1, vec![vec![lock(0), write(0, 1), unlock(0)], vec![lock(0), read(0, 0), unlock(0)]]);
    let outcome = explore(&racy, explorer(Kind::Dpor, 1).reporting_races(), |_, _| true);
    assert_eq!(outcome.verdict, Verdict::Failed(Failure::Race));
    let outcome = explore(&guarded, explorer(Kind::Dpor, 1).reporting_races(), |_, _| true);
    assert_eq!(outcome.verdict, Verdict::Proved);
}

#[test]
fn a_replay_survives_edits_elsewhere_and_says_where_it_comes_off() {
    let case = &cases()[0];
    let outcome = judged(&case.program, Kind::Dpor, 1, case.holds);
    let text = outcome.schedule.expect("a schedule");
    // The same program with more steps of another thread at its end.
    let mut edited = case.program.clone();
    for _ in 0..3 {
        edited.threads[2].push(I::Add { place: 9, n: 1, register: 3 });
    }
    let again = explore_quickly(&edited, Explorer::replay(&text, Limits::default()).expect("a schedule"), case.holds);
    assert!(matches!(again.verdict, Verdict::Failed(_)), "{text}: {:?}", again.verdict);
    // The racing lines are gone.
    let mut repaired = case.program.clone();
    for code in &mut repaired.threads {
        code.truncate(2);
        code.push(I::Add { place: 0, n: 1, register: 0 });
    }
    let explorer = Explorer::replay(&text, Limits::default()).expect("a schedule");
    let again = explore_quickly(&repaired, explorer, case.holds);
    let Verdict::GaveUp(Reason::Diverged(divergence)) = again.verdict else { panic!("{:?}", again.verdict) };
    let mut labels = explore::schedule::Labels::default();
    let schedule = Schedule::parse(&text, &mut labels).expect("a schedule");
    assert_eq!(divergence.turn, 0, "{:?}", schedule.turns);
}

/// A lost update in the middle of much that is shared too: who knows the two lines finds it at once.
#[test]
fn a_search_that_is_aimed_switches_there_first() {
    let thread = || {
        let noise = std::iter::repeat_n(I::Add { place: 9, n: 1, register: 3 }, 60);
        noise.clone().chain([read(0, 0), put(0, 0)]).chain(noise).collect::<Vec<I>>()
    };
    let program = Program::new(10, vec![thread(), thread()]);
    let explored = |is_aimed: bool| {
        let mut explorer = Explorer::new(Kind::Auto, Limits { runs_max: 5_000, ..Limits::default() }, 1);
        for thread in 0..if is_aimed { 2 } else { 0 } {
            for at in [60, 61] {
                let label = explorer.label(&format!("t{thread}.{at}"));
                explorer.aim_at(label);
            }
        }
        explore(&program, explorer, |values, _| values.places[0] == 2)
    };
    let outcome = explored(true);
    assert!(matches!(outcome.verdict, Verdict::Failed(_)));
    // Two serial orders; then a thread is stopped before, between and behind the two accesses.
    assert!(outcome.certificate.executions <= 8, "{}", outcome.certificate.executions);
    assert!(explored(false).certificate.executions > 100);
}
