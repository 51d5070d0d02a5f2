//! All outcomes of a model program, by walking through all states: an interpreter that shares no code with the
//! engine, so that the two can be wrong only in different ways.

use std::collections::{HashSet, VecDeque};

use crate::model::{Instruction as I, Program, Values};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    /// Before its next instruction.
    Ready,
    /// In the second half of a timed wait.
    Armed(u64),
    Waiting {
        deadline: Option<u64>,
        is_notified: bool,
    },
    /// Notified or out of time: needs its lock, and learns which of the two when it has it.
    Back {
        is_timed_out: bool,
    },
    NotStarted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    values: Values,
    modes: Vec<Mode>,
    holder: Vec<Option<usize>>,
    readers: Vec<usize>,
    queue: Vec<(u32, usize)>,
    clock: u64,
}

const N_LOCKS: usize = 8;

/// All values that a program can end with; a program that gets stuck ends where it is stuck.
pub fn outcomes(program: &Program, states_max: usize) -> Option<HashSet<Values>> {
    let n = program.threads.len();
    let mut first = World {
        values: Values::new(program),
        modes: (0..n).map(|t| if t < program.n_started { Mode::Ready } else { Mode::NotStarted }).collect(),
        holder: vec![None; N_LOCKS],
        readers: vec![0; N_LOCKS],
        queue: Vec::new(),
        clock: 0,
    };
    for thread in 0..n {
        first.values.settle(program, thread);
    }
    let mut seen = HashSet::from([first.clone()]);
    let mut left = VecDeque::from([first]);
    let mut found = HashSet::new();
    while let Some(world) = left.pop_front() {
        let mut is_end = true;
        for thread in 0..n {
            for next in world.steps(program, thread) {
                is_end = false;
                if seen.insert(next.clone()) {
                    left.push_back(next);
                }
            }
        }
        if is_end {
            found.insert(world.values);
        }
        if seen.len() > states_max {
            return None;
        }
    }
    Some(found)
}

impl World {
    fn is_due(&self, deadline: u64) -> bool {
        self.modes.iter().all(|mode| match mode {
            Mode::Armed(other) | Mode::Waiting { deadline: Some(other), .. } => *other >= deadline,
            _ => true,
        })
    }

    fn is_free(&self, lock: u32) -> bool {
        self.holder[lock as usize].is_none() && self.readers[lock as usize] == 0
    }

    /// The worlds after one step of a thread.
    fn steps(&self, program: &Program, thread: usize) -> Vec<World> {
        let code = &program.threads[thread];
        let Some(instruction) = code.get(self.values.at[thread]).copied() else {
            return Vec::new();
        };
        match self.modes[thread] {
            Mode::NotStarted => Vec::new(),
            Mode::Ready => self.begin(program, thread, instruction),
            Mode::Armed(deadline) => self.armed(program, thread, instruction, deadline),
            Mode::Waiting { deadline, is_notified } => {
                let (I::Wait { lock, .. } | I::WaitTimed { lock, .. }) = instruction else { unreachable!() };
                let mut next = self.clone();
                let is_due = deadline.is_some_and(|deadline| self.is_due(deadline));
                if deadline.is_none() {
                    // Without a limit the end of the wait and the taking of the lock are one step.
                    if !is_notified || !self.is_free(lock) {
                        return Vec::new();
                    }
                    next.holder[lock as usize] = Some(thread);
                    return vec![next.advance(program, thread)];
                }
                if !is_notified && !is_due {
                    return Vec::new();
                }
                if !is_notified {
                    next.queue.retain(|(_, other)| *other != thread);
                    next.clock = next.clock.max(deadline.unwrap_or(0));
                }
                next.modes[thread] = Mode::Back { is_timed_out: !is_notified };
                vec![next]
            }
            Mode::Back { is_timed_out } => {
                let (I::Wait { lock, .. } | I::WaitTimed { lock, .. }) = instruction else { unreachable!() };
                if !self.is_free(lock) {
                    return Vec::new();
                }
                let mut next = self.clone();
                next.holder[lock as usize] = Some(thread);
                if let I::WaitTimed { register, .. } = instruction {
                    next.values.registers[thread][register] = i32::from(is_timed_out);
                }
                vec![next.advance(program, thread)]
            }
        }
    }

    fn advance(mut self, program: &Program, thread: usize) -> World {
        self.modes[thread] = Mode::Ready;
        self.values.at[thread] += 1;
        self.values.settle(program, thread);
        self
    }

    fn jump(mut self, program: &Program, thread: usize, to: usize) -> World {
        self.modes[thread] = Mode::Ready;
        self.values.at[thread] = to;
        self.values.settle(program, thread);
        self
    }

    fn armed(&self, program: &Program, thread: usize, instruction: I, deadline: u64) -> Vec<World> {
        let mut next = self.clone();
        match instruction {
            I::LockTimed { lock, .. } if self.is_free(lock) => {
                next.holder[lock as usize] = Some(thread);
                vec![next.advance(program, thread)]
            }
            I::LockTimed { otherwise, .. } if self.is_due(deadline) => {
                next.clock = next.clock.max(deadline);
                vec![next.jump(program, thread, otherwise)]
            }
            I::Sleep { .. } if self.is_due(deadline) => {
                next.clock = next.clock.max(deadline);
                vec![next.advance(program, thread)]
            }
            _ => Vec::new(),
        }
    }

    fn begin(&self, program: &Program, thread: usize, instruction: I) -> Vec<World> {
        let mut next = self.clone();
        match instruction {
            I::Read { place, register } => next.values.registers[thread][register] = self.values.places[place as usize],
            I::Write { place, source } => next.values.places[place as usize] = self.values.value(thread, source),
            I::Add { place, n, register } => {
                next.values.registers[thread][register] = self.values.places[place as usize];
                next.values.places[place as usize] += n;
            }
            I::Lock { lock } if self.is_free(lock) => next.holder[lock as usize] = Some(thread),
            I::LockShared { lock } if self.holder[lock as usize].is_none() => next.readers[lock as usize] += 1,
            I::Lock { .. } | I::LockShared { .. } => return Vec::new(),
            I::Try { lock, .. } if self.is_free(lock) => next.holder[lock as usize] = Some(thread),
            I::Try { otherwise, .. } => return vec![next.jump(program, thread, otherwise)],
            I::LockTimed { timeout_ns, .. } | I::Sleep { timeout_ns } => {
                next.modes[thread] = Mode::Armed(self.clock + timeout_ns);
                return vec![next];
            }
            I::Unlock { lock } => next.holder[lock as usize] = None,
            I::UnlockShared { lock } => next.readers[lock as usize] -= 1,
            I::Wait { condition, lock } | I::WaitTimed { condition, lock, .. } => {
                next.holder[lock as usize] = None;
                next.queue.push((condition, thread));
                let deadline = match instruction {
                    I::WaitTimed { timeout_ns, .. } => Some(self.clock + timeout_ns),
                    _ => None,
                };
                next.modes[thread] = Mode::Waiting { deadline, is_notified: false };
                return vec![next];
            }
            I::Notify { condition, count } => next.notify(condition, count),
            I::Spawn { thread: child } => next.modes[child as usize] = Mode::Ready,
            I::Join { thread: other } => {
                let other = other as usize;
                let has_begun = self.modes[other] != Mode::NotStarted;
                if !has_begun || self.values.at[other] < program.threads[other].len() {
                    return Vec::new();
                }
            }
            I::Choose { n, register } => {
                let ways = (0..n).map(|way| {
                    let mut next = self.clone();
                    next.values.registers[thread][register] = way as i32;
                    next.advance(program, thread)
                });
                return ways.collect();
            }
            I::Yield => {}
            I::Jump { .. } | I::JumpUnless { .. } => unreachable!("settled"),
        }
        vec![next.advance(program, thread)]
    }

    fn notify(&mut self, condition: u32, count: u32) {
        for _ in 0..count {
            let Some(at) = self.queue.iter().position(|(other, _)| *other == condition) else { return };
            let (_, thread) = self.queue.remove(at);
            if let Mode::Waiting { is_notified, deadline } = &mut self.modes[thread] {
                *is_notified = true;
                // A wait that is over has no deadline that others would wait for.
                let _ = deadline;
            }
        }
    }
}
