//! Programs whose number of traces is known, and the one with four lines that others certify wrongly.

use explore::strategy::{Coverage, Kind};

use crate::model::{Instruction as I, Program, Source};
use crate::programs::all;

fn traces(program: &Program) -> (u64, u64) {
    let found = all(program, Kind::Dpor, 100_000).expect("exhausted");
    assert_eq!(found.coverage, Coverage::All);
    (found.executions, found.traces)
}

fn write(place: u32, value: i32) -> I {
    I::Write { place, source: Source::Constant(value) }
}

#[test]
fn readers_and_writers() {
    for n in 1..=6u32 {
        // One writer and n readers of one place: each reader sees it before or after.
        let mut threads = vec![vec![write(0, 1)]];
        threads.extend((0..n).map(|_| vec![I::Read { place: 0, register: 0 }]));
        assert_eq!(traces(&Program::new(1, threads)), (1 << n, 1 << n), "{n} readers");
        let threads = (0..n as i32).map(|thread| vec![write(0, thread)]).collect();
        let orders = (1..=u64::from(n)).product();
        assert_eq!(traces(&Program::new(1, threads)), (orders, orders), "{n} writers");
    }
}

#[test]
fn last_zero() {
    // JACM 2017: thread 0 looks for the last zero from the right, thread i adds one to its left neighbour.
    for n in 2..=8u32 {
        let mut search = Vec::new();
        for place in (1..=n).rev() {
            search.push(I::Read { place, register: 0 });
            search.push(I::JumpUnless { register: 0, value: 0, to: 3 * (n - place + 1) as usize });
            search.push(I::Jump { to: 3 * n as usize + 1 });
        }
        search.push(I::Read { place: 0, register: 0 });
        let mut threads = vec![search];
        for place in 1..=n {
            threads.push(vec![
                I::Read { place: place - 1, register: 0 },
                I::Write { place, source: Source::Register(0, 1) },
            ]);
        }
        let known = if n >= 2 { (1u64 << (n - 2)) * u64::from(n + 3) } else { 0 };
        let (executions, traces) = traces(&Program::new(n as usize + 1, threads));
        println!("lastzero {n}: {executions} runs, {traces} traces, known {known}");
        assert_eq!(executions, traces, "{n}");
    }
}

#[test]
fn four_lines_that_fail_without_a_preemption() {
    let (a, b, lock) = (0, 1, 0);
    let first = vec![write(a, 1), I::Lock { lock }, write(b, 1), I::Unlock { lock }];
    let second = vec![
        I::Lock { lock },
        I::Read { place: b, register: 0 },
        I::Unlock { lock },
        I::Read { place: a, register: 1 },
    ];
    let found = all(&Program::new(2, vec![first, second]), Kind::Dpor, 1_000).expect("exhausted");
    let mut seen: Vec<(i32, i32)> = found.outcomes.iter().map(|v| (v.registers[1][0], v.registers[1][1])).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 1)]);
    assert_eq!(found.executions, 3);
}
