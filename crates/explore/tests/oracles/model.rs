//! Model programs and model threads: what Python code is to the product, small enough to be enumerated.

use explore::judge::Failure;
use explore::operation::{Effect, ObjectId, Operation, Place, ThreadId};
use explore::outcome::Outcome;
use explore::trace::Trace;
use explore::{After, Explorer, Next};
use facts::LockMode;

/// Registers of a thread.
pub const N_REGISTERS: usize = 4;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Constant(i32),
    /// A register plus a number.
    Register(usize, i32),
}

/// One instruction; targets are indices into the thread's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    Read { place: u32, register: usize },
    Write { place: u32, source: Source },
    Add { place: u32, n: i32, register: usize },
    JumpUnless { register: usize, value: i32, to: usize },
    Jump { to: usize },
    Lock { lock: u32 },
    LockShared { lock: u32 },
    LockTimed { lock: u32, timeout_ns: u64, otherwise: usize },
    Try { lock: u32, otherwise: usize },
    Unlock { lock: u32 },
    UnlockShared { lock: u32 },
    Wait { condition: u32, lock: u32 },
    WaitTimed { condition: u32, lock: u32, timeout_ns: u64, register: usize },
    Notify { condition: u32, count: u32 },
    Sleep { timeout_ns: u64 },
    Spawn { thread: u32 },
    Join { thread: u32 },
    Choose { n: u32, register: usize },
    Yield,
}

use Instruction as I;

/// A program: the code of each thread. The first `n_started` threads run from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub threads: Vec<Vec<Instruction>>,
    pub n_started: usize,
    pub n_places: usize,
}

impl Program {
    pub fn new(n_places: usize, threads: Vec<Vec<Instruction>>) -> Self {
        Self { n_started: threads.len(), threads, n_places }
    }
}

/// The values at the end: places, registers, and where each thread stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Values {
    pub places: Vec<i32>,
    pub registers: Vec<[i32; N_REGISTERS]>,
    pub at: Vec<usize>,
}

impl Values {
    pub fn new(program: &Program) -> Self {
        let n = program.threads.len();
        Self { places: vec![0; program.n_places], registers: vec![[0; N_REGISTERS]; n], at: vec![0; n] }
    }

    pub fn value(&self, thread: usize, source: Source) -> i32 {
        match source {
            Source::Constant(value) => value,
            Source::Register(register, n) => self.registers[thread][register] + n,
        }
    }

    /// Goes on to the next instruction that others can see.
    pub fn settle(&mut self, program: &Program, thread: usize) {
        let code = &program.threads[thread];
        loop {
            match code.get(self.at[thread]) {
                Some(I::Jump { to }) => self.at[thread] = *to,
                Some(I::JumpUnless { register, value, to }) => {
                    let holds = self.registers[thread][*register] == *value;
                    self.at[thread] = if holds { self.at[thread] + 1 } else { *to };
                }
                _ => return,
            }
        }
    }
}

fn operation(instruction: Instruction) -> Operation {
    let place = |place| Place::item(1_000, place);
    let lock_of = |lock: u32| ObjectId(lock);
    match instruction {
        I::Read { place: p, .. } => Operation::read(place(p)),
        I::Write { place: p, .. } => Operation::write(place(p)),
        I::Add { place: p, .. } => Operation::update(place(p)),
        I::Lock { lock } => Operation::acquire(lock),
        I::LockShared { lock } => Operation::Acquire { lock: lock_of(lock), mode: LockMode::Shared, timeout_ns: None },
        I::LockTimed { lock, timeout_ns, .. } => {
            Operation::Acquire { lock: lock_of(lock), mode: LockMode::Exclusive, timeout_ns: Some(timeout_ns) }
        }
        I::Try { lock, .. } => Operation::try_acquire(lock),
        I::Unlock { lock } => Operation::release(lock),
        I::UnlockShared { lock } => Operation::Release { lock: lock_of(lock), mode: LockMode::Shared },
        I::Wait { condition, lock } => {
            Operation::Wait { condition: ObjectId(condition), lock: Some(lock_of(lock)), timeout_ns: None }
        }
        I::WaitTimed { condition, lock, timeout_ns, .. } => {
            Operation::Wait { condition: ObjectId(condition), lock: Some(lock_of(lock)), timeout_ns: Some(timeout_ns) }
        }
        I::Notify { condition, count } => Operation::Notify { condition: ObjectId(condition), count },
        I::Sleep { timeout_ns } => Operation::Sleep { timeout_ns },
        I::Spawn { thread } => Operation::Spawn { child: ThreadId(thread) },
        I::Join { thread } => Operation::Join { child: ThreadId(thread), timeout_ns: None },
        I::Choose { n, .. } => Operation::Choice { n },
        I::Yield => Operation::Yield,
        I::Jump { .. } | I::JumpUnless { .. } => unreachable!("settled"),
    }
}

/// Does what was granted.
fn complete(values: &mut Values, thread: usize, instruction: Instruction, effect: Effect) {
    values.at[thread] += 1;
    match instruction {
        I::Read { place, register } => values.registers[thread][register] = values.places[place as usize],
        I::Write { place, source } => values.places[place as usize] = values.value(thread, source),
        I::Add { place, n, register } => {
            values.registers[thread][register] = values.places[place as usize];
            values.places[place as usize] += n;
        }
        I::Try { otherwise, .. } if effect == Effect::Failed => values.at[thread] = otherwise,
        I::LockTimed { otherwise, .. } if effect == Effect::TimedOut => values.at[thread] = otherwise,
        I::WaitTimed { register, .. } => values.registers[thread][register] = i32::from(effect == Effect::TimedOut),
        I::Choose { register, .. } => {
            if let Effect::Branch(branch) = effect {
                values.registers[thread][register] = branch as i32;
            }
        }
        _ => {}
    }
}

/// One run of a program.
pub fn run(program: &Program, explorer: &mut Explorer) -> Values {
    let mut values = Values::new(program);
    let mut has_begun = vec![false; program.threads.len()];
    let mut next = explorer.begin(program.n_started);
    while let Next::Run(id) = next {
        let thread = id.idx();
        let code = &program.threads[thread];
        if has_begun[thread] {
            let done = code[values.at[thread]];
            complete(&mut values, thread, done, explorer.effect(id));
        }
        has_begun[thread] = true;
        values.settle(program, thread);
        let at = values.at[thread];
        let label = explorer.label(&match at < code.len() {
            true => format!("t{thread}.{at}"),
            false => format!("t{thread}.end"),
        });
        let operation = code.get(at).map_or(Operation::Exit, |instruction| operation(*instruction));
        next = explorer.announce(id, operation, label);
    }
    values
}

/// Explores to the end, judging each run by an invariant.
pub fn explore(program: &Program, mut explorer: Explorer, holds: impl Fn(&Values, &Trace) -> bool) -> Outcome {
    loop {
        let values = run(program, &mut explorer);
        let is_complete = explorer.trace().end == explore::trace::End::Complete;
        let has_failed = is_complete && !holds(&values, explorer.trace());
        match explorer.end(has_failed.then(|| Failure::Invariant(String::new()))) {
            After::More => {}
            After::Done(outcome) => return *outcome,
        }
    }
}
