//! Random model programs: few statements, few places, everything that threads can do to each other.

use crate::model::{Instruction as I, Program, Source};

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn place(&mut self) -> u32 {
        self.below(2) as u32
    }

    fn register(&mut self) -> usize {
        self.below(3) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the programs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Reads, writes, locks, tries, branches, joins.
    Locks,
    /// The same with conditions.
    Conditions,
    /// The same with timeouts and sleeps.
    Timeouts,
    /// The same with shared locks, choices and started threads.
    All,
}

struct Writer<'a> {
    dice: &'a mut Dice,
    flavour: Flavour,
    code: Vec<I>,
    n_left: usize,
}

impl Writer<'_> {
    fn simple(&mut self) {
        let (place, register) = (self.dice.place(), self.dice.register());
        let source = match self.dice.below(3) {
            0 => Source::Register(register, 1),
            _ => Source::Constant(self.dice.below(3) as i32),
        };
        self.code.push(match self.dice.below(9) {
            0..4 => I::Read { place, register },
            4..8 => I::Write { place, source },
            _ => I::Add { place, n: 1, register },
        });
    }

    fn body(&mut self, held: &[u32]) {
        let n = 1 + self.dice.below(2) as usize;
        for _ in 0..n.min(self.n_left.max(1)) {
            self.statement(held);
        }
    }

    fn statement(&mut self, held: &[u32]) {
        self.n_left = self.n_left.saturating_sub(1);
        let lock = self.dice.below(2) as u32;
        let can_lock = !held.contains(&lock) && held.len() < 2;
        let more = [held, &[lock]].concat();
        let has = |flavour| self.flavour == flavour || self.flavour == Flavour::All;
        match self.dice.below(16) {
            0..3 if can_lock => {
                self.code.push(I::Lock { lock });
                self.body(&more);
                self.code.push(I::Unlock { lock });
            }
            3..5 if can_lock => {
                let at = self.code.len();
                self.code.push(I::Try { lock, otherwise: 0 });
                self.body(&more);
                self.code.push(I::Unlock { lock });
                let end = self.code.len();
                self.code[at] = I::Try { lock, otherwise: end };
            }
            5..7 => {
                let (place, register) = (self.dice.place(), self.dice.register());
                let value = self.dice.below(2) as i32;
                self.code.push(I::Read { place, register });
                let at = self.code.len();
                self.code.push(I::Jump { to: 0 });
                self.body(held);
                let to = self.code.len();
                self.code[at] = I::JumpUnless { register, value, to };
            }
            7 if has(Flavour::Conditions) && !held.is_empty() => {
                let lock = held[held.len() - 1];
                let wait = self.dice.chance(60);
                let count = 1 + self.dice.below(2) as u32;
                self.code.push(match wait {
                    true => I::Wait { condition: lock, lock },
                    false => I::Notify { condition: lock, count },
                });
            }
            8 if has(Flavour::Timeouts) => self.timed(held, lock, can_lock),
            9 if self.flavour == Flavour::All && can_lock => {
                self.code.push(I::LockShared { lock });
                self.simple();
                self.code.push(I::UnlockShared { lock });
            }
            10 if self.flavour == Flavour::All => {
                let register = self.dice.register();
                self.code.push(I::Choose { n: 2, register });
            }
            _ => self.simple(),
        }
    }

    fn timed(&mut self, held: &[u32], lock: u32, can_lock: bool) {
        let timeout_ns = 1 + self.dice.below(3);
        match (self.dice.below(3), held.last()) {
            (0, _) if can_lock => {
                let at = self.code.len();
                self.code.push(I::Yield);
                self.simple();
                self.code.push(I::Unlock { lock });
                let otherwise = self.code.len();
                self.code[at] = I::LockTimed { lock, timeout_ns, otherwise };
            }
            (1, Some(lock)) => {
                let register = self.dice.register();
                self.code.push(I::WaitTimed { condition: *lock, lock: *lock, timeout_ns, register });
            }
            _ => self.code.push(I::Sleep { timeout_ns }),
        }
    }
}

/// A program; the same seed gives the same one.
pub fn program(seed: u64, flavour: Flavour) -> Program {
    let dice = &mut Dice(seed);
    let n_threads = 2 + dice.below(2) as usize;
    let size = if n_threads == 2 { 7 } else { 4 };
    let mut threads = Vec::new();
    for thread in 0..n_threads {
        let n = 2 + dice.below(size) as usize;
        let mut writer = Writer { dice, flavour, code: Vec::new(), n_left: n };
        while writer.n_left > 0 {
            writer.statement(&[]);
        }
        let mut code = writer.code;
        // The first thread may wait for another and look at what it did.
        if thread == 0 && dice.chance(30) {
            code.push(I::Join { thread: 1 + dice.below(n_threads as u64 - 1) as u32 });
            code.push(I::Read { place: dice.place(), register: 3 });
        }
        threads.push(code);
    }
    let mut program = Program::new(3, threads);
    if flavour == Flavour::All && dice.chance(30) {
        let last = n_threads as u32 - 1;
        let starter = &mut program.threads[0];
        // Targets of jumps stay right: the start comes first and everything moves by one.
        for instruction in starter.iter_mut() {
            if let I::Jump { to }
            | I::JumpUnless { to, .. }
            | I::Try { otherwise: to, .. }
            | I::LockTimed { otherwise: to, .. } = instruction
            {
                *to += 1;
            }
        }
        starter.insert(0, I::Spawn { thread: last });
        program.n_started -= 1;
    }
    program
}
