//! All that the threads of an exploration share: the explorer, the sites of the program, and who is where.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use explore::operation::{Effect, ObjectId, Operation, Place, ThreadId};
use explore::trace::Label;
use explore::visibility::Visibility;
use explore::{Explorer, Next};
use facts::Action;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use super::gate;
use crate::raw::baton::{self, DRIVER, Held, Seat};
use crate::raw::observe::naming::Naming;
use crate::raw::observe::operands::{Instruction, Part, Touch};
use crate::raw::observe::sources::{Origins, Results};

/// The session; whoever holds the baton looks at it.
pub static SESSION: LazyLock<Held<Session>> = LazyLock::new(|| Held::new(Session::default()));

/// The object whose attributes are those of all classes.
const TYPES: u32 = u32::MAX;
/// Every container, where one was touched of which it is not known which.
const CONTAINERS: u32 = u32::MAX - 1;
/// What is the own of the first thread; that of the others lies below.
const OWN: u32 = u32::MAX - 2;
/// Numbers of locks and conditions, by who made them: the setup of a run, a thread of a run, or what outlives runs.
const LOCKS: u32 = 1 << 30;
const LOCKS_OF_ONE: u32 = 1 << 20;
/// A thread that goes on for so many instructions without an announcement lets others go first: it may wait for them in
/// a loop. One that is being unwound is stopped again.
const EVENTS_MAX: u32 = 20_000;

/// Where an instruction stands.
pub struct Origin {
    /// What a schedule calls it.
    pub name: String,
    pub file: String,
    pub line: u32,
    /// What it touches, in words, such as `s.n`.
    pub text: String,
    /// Is it in the user's code, and not in a library?
    pub is_own: bool,
}

/// A file, and a first and a last line of it.
pub type Lines = (String, u32, u32);

impl Origin {
    fn is_among(&self, lines: &[Lines]) -> bool {
        lines.iter().any(|(file, first, last)| (*first..=*last).contains(&self.line) && *file == self.file)
    }
}

/// An instruction of the program that may touch something.
pub struct Site {
    pub instruction: Instruction,
    pub origin: Origin,
    /// Where its operands come from, for those who do not read frames.
    origins: Arc<Origins>,
    /// In the exploration under way; none before it is met there.
    label: Option<Label>,
    /// Is a choice of threads made before it?
    is_step: bool,
}

/// The instructions of a code object.
pub struct Code {
    pub n_locals: usize,
    /// For each two bytes of code the number of the site plus one.
    pub sites: Vec<u32>,
    /// Has the exploration under way come to it?
    is_entered: bool,
}

impl Code {
    pub fn new(n_locals: usize, sites: Vec<u32>) -> Code {
        Code { n_locals, sites, is_entered: false }
    }
}

#[derive(Clone, Copy, Default)]
struct Name {
    /// The part of an object that it names: that of an item of its `__dict__`.
    key: u32,
    is_written: bool,
    is_of_types: bool,
    /// Was an object touched under this name of which it is not known which?
    is_coarse: bool,
}

/// What a thread has to do.
pub struct Job {
    pub callable: Py<PyAny>,
    pub argument: Option<Py<PyAny>>,
}

#[derive(Default)]
struct Party {
    job: Option<Job>,
    is_over: bool,
    /// The last instruction that it came to in code that is seen.
    site: Option<u32>,
    /// Instructions since it last announced something, or since it is unwound.
    n_events: u32,
    n_locks: u32,
    /// The call in C that it is in, as far as it is known.
    call: Option<InCall>,
    /// Locks of flights that have landed, to be given back in its next steps.
    landed: Vec<ObjectId>,
}

/// A step whose instruction may call back into Python code before it is done.
#[derive(Clone, Copy)]
pub struct InCall {
    pub frame: usize,
    pub code: usize,
    pub site: u32,
    pub operation: Operation,
    pub label: Label,
    pub places: [Option<(Action, Place)>; 2],
}

/// What is known of a step besides its site.
#[derive(Clone, Debug)]
pub struct Told {
    /// The number of the step in its run.
    pub step: usize,
    pub value: Option<String>,
    /// What is said of it instead of what the site says: text, file, line.
    pub note: Option<(String, String, u32)>,
}

/// Who has the baton next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Whoever asked goes on.
    Mine,
    /// Another.
    Of(Seat),
    /// The run is over, and whoever asked is unwound.
    Over,
}

/// What to do at an instruction.
pub enum Visit {
    /// It touches nothing, now and ever.
    Never,
    /// Look at its operands.
    Look(u32, Instruction, usize),
    /// The thread comes out of code in C that it has called, before that is done, if it is still below.
    Back(InCall),
    /// The thread lets others go first.
    Yield,
    /// The thread is stopped.
    Unwind,
}

/// See the module.
#[derive(Default)]
pub struct Session {
    pub explorer: Option<Explorer>,
    visibility: Visibility,
    pub naming: Naming,
    codes: HashMap<usize, u32, FxBuildHasher>,
    code_list: Vec<Code>,
    last_code: (usize, u32),
    /// The numbers of the code objects that the exploration under way has come to, in that order.
    pub entered: Vec<u32>,
    sites: Vec<Site>,
    names: Vec<Name>,
    name_numbers: HashMap<String, u32>,
    parties: Vec<Party>,
    /// Threads that serve others, not yet made known to the explorer.
    pub background: Vec<ThreadId>,
    pub is_unwinding: bool,
    /// Sites that become steps after this run.
    new_steps: Vec<u32>,
    is_stale: bool,
    is_any_written: bool,
    /// Are all containers one place?
    is_coarse: bool,
    /// What instructions of this run came to, for those who do not read frames.
    pub results: Results,
    /// Are all conflicting accesses steps, for a better story?
    pub tells_all: bool,
    pub told: Vec<Told>,
    /// The first exception of a thread.
    pub failure: Option<(ThreadId, String)>,
    n_locks_of_setup: u32,
    /// Locks that the setup has taken and not given back.
    pub n_held_by_driver: u32,
    racing: Vec<u32>,
    /// Lines around which switches of threads are tried first.
    aims: Vec<Lines>,
    /// Lines at which no thread is switched.
    mutes: Vec<Lines>,
    /// The weak references that have lost their objects in this run.
    lost: HashSet<u32, FxBuildHasher>,
    /// The locks that stand for flights, by their numbers.
    flights: HashMap<u64, ObjectId, FxBuildHasher>,
}

impl Session {
    // --- what is known of the program

    /// The number of a name of an attribute or global, whose key in a dict is `key`.
    pub fn name(&mut self, name: &str, key: u32) -> u32 {
        if let Some(number) = self.name_numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(Name { key, ..Name::default() });
        self.name_numbers.insert(name.to_owned(), number);
        number
    }

    /// The name with this number.
    pub fn name_of(&self, number: u32) -> String {
        let named = self.name_numbers.iter().find(|(_, other)| **other == number);
        named.map_or_else(String::new, |(name, _)| name.clone())
    }

    /// The number of a new site.
    pub fn add_site(&mut self, instruction: Instruction, origin: Origin, origins: Origins) -> u32 {
        // A schedule that is replayed has named it: it was a step there.
        let is_step = self.explorer.as_ref().is_some_and(|explorer| explorer.knows_label(&origin.name));
        self.sites.push(Site { instruction, origin, origins: Arc::new(origins), label: None, is_step });
        self.sites.len() as u32 - 1
    }

    /// Where the operands of an instruction come from.
    pub fn origins(&self, site: u32) -> Arc<Origins> {
        self.sites[site as usize].origins.clone()
    }

    /// The sites of a code object, which is kept alive by the caller.
    pub fn add_code(&mut self, address: usize, code: Code) {
        self.codes.insert(address, self.code_list.len() as u32);
        self.code_list.push(code);
    }

    /// Is the code object known?
    pub fn knows(&self, address: usize) -> bool {
        self.codes.contains_key(&address)
    }

    /// The site of a label of the exploration under way.
    pub fn site_of_label(&self, label: Label) -> Option<&Site> {
        self.sites.iter().find(|site| site.label == Some(label))
    }

    /// A thread comes to an instruction.
    #[inline]
    pub fn visit(&mut self, seat: Seat, address: usize, offset: usize) -> Visit {
        if self.last_code.0 != address {
            let Some(idx) = self.codes.get(&address) else { return Visit::Never };
            self.last_code = (address, *idx);
            let code = &mut self.code_list[*idx as usize];
            if !code.is_entered {
                code.is_entered = true;
                self.entered.push(*idx);
            }
        }
        let code = &self.code_list[self.last_code.1 as usize];
        let number = code.sites.get(offset / 2).copied().unwrap_or(0);
        if number == 0 {
            return Visit::Never;
        }
        let n_locals = code.n_locals;
        if seat != DRIVER {
            let party = &mut self.parties[seat as usize];
            party.site = Some(number - 1);
            party.n_events += 1;
            if let Some(call) = party.call.take()
                && call.code != address
            {
                return Visit::Back(call);
            }
            if party.n_events > EVENTS_MAX {
                party.n_events = 0;
                return if self.is_unwinding { Visit::Unwind } else { Visit::Yield };
            }
        }
        Visit::Look(number - 1, self.sites[number as usize - 1].instruction, n_locals)
    }

    // --- accesses

    /// A thread is about to touch something: what it has to announce, if anything. What it touches is written to
    /// `places`.
    pub fn touch(
        &mut self,
        seat: Seat,
        site: u32,
        touches: [Option<Touch>; 2],
        places: &mut [Option<(Action, Place)>; 2],
    ) -> Option<Operation> {
        for (touch, place) in touches.iter().zip(places.iter_mut()) {
            *place = touch.as_ref().and_then(|touch| self.place(seat, touch));
        }
        if places[0].is_none() {
            *places = [places[1], None];
        }
        let (action, place) = places[0]?;
        if !self.sites[site as usize].is_step {
            self.watch(seat, site, places);
            return None;
        }
        Some(match places[1] {
            Some(second) => Operation::Both { first: (action, place), second },
            None => Operation::Access { action, place },
        })
    }

    fn place(&mut self, seat: Seat, touch: &Touch) -> Option<(Action, Place)> {
        let Touch { action, object, part } = *touch;
        if self.naming.outlives() && !object.is_null() {
            let is_of_program = self.site_of(seat).is_some_and(|site| self.sites[site as usize].origin.is_own);
            if is_of_program {
                self.naming.touch(object);
            }
        }
        let is_of_container = matches!(part, Part::All | Part::Item(_));
        if is_of_container && (object.is_null() || self.is_coarse) {
            // Until now the containers were told apart.
            self.is_stale |= !self.is_coarse;
            self.is_coarse = true;
            return Some((action, Place::structure(CONTAINERS)));
        }
        let key = match part {
            Part::All => return Some((action, Place::structure(self.naming.number(object, seat as usize)))),
            Part::Own => return Some((action, Place::structure(OWN - seat as u32))),
            Part::Item(key) => key,
            Part::Name(number) => {
                let name = &mut self.names[number as usize];
                // Whatever object it is, the place is that of the name.
                let is_type = object.is_null() || Naming::is_type(object);
                if object.is_null() && !name.is_coarse {
                    // Until now the objects were told apart.
                    self.is_stale |= name.is_written && !name.is_of_types;
                    (name.is_coarse, name.is_of_types) = (true, true);
                }
                if !action.writes() && !name.is_written && !self.is_any_written {
                    return None;
                }
                if action.writes() && (!name.is_written || (is_type && !name.is_of_types)) {
                    // Reads of this name were passed over until now.
                    (name.is_written, name.is_of_types) = (true, name.is_of_types || is_type);
                    self.is_stale = true;
                }
                if name.is_of_types || is_type {
                    return Some((action, Place::item(TYPES, name.key)));
                }
                name.key
            }
        };
        Some((action, Place::item(self.naming.number(object, seat as usize), key)))
    }

    /// The program gets hold of the dict of an object's attributes: an item of it is the attribute, and any name may be
    /// written through it.
    pub fn meet_dict(&mut self, seat: Seat, object: *mut PyObject, dict: *mut PyObject) {
        self.naming.alias(dict, object, seat as usize);
        self.is_stale |= !self.is_any_written;
        self.is_any_written = true;
    }

    /// What was not told apart: the names of which each is one place for all objects, sorted, and whether all containers
    /// are one.
    pub fn coarse(&self) -> (Vec<String>, bool) {
        let is_coarse = |number: u32| {
            let name = self.names[number as usize];
            name.is_coarse && name.is_written
        };
        let names = self.name_numbers.iter().filter(|(_, number)| is_coarse(**number)).map(|(name, _)| name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        (names, self.is_coarse)
    }

    /// Can attributes be touched through the dict of an object without being seen as what they are?
    pub fn loses_attributes(&self) -> bool {
        self.is_any_written && (self.is_coarse || self.names.iter().any(|name| name.is_coarse))
    }

    /// The access is made.
    pub fn watch(&mut self, seat: Seat, site: u32, places: &[Option<(Action, Place)>; 2]) {
        let thread = ThreadId(seat as u32);
        let is_step = self.sites[site as usize].is_step;
        let mut is_death_missed = false;
        for (action, place) in places.iter().flatten() {
            let asks_for_all = self.tells_all && self.sites[site as usize].origin.is_own;
            self.visibility.access(thread, *action, *place, site, asks_for_all, &mut self.racing);
            is_death_missed |= !self.racing.is_empty() && self.lost.contains(&place.object.0);
            if is_step {
                self.visibility.step(thread, *action, *place);
            }
        }
        if is_death_missed {
            self.miss_deaths();
        }
        if !self.racing.is_empty() {
            self.take_racing(site);
        }
    }

    /// The sites that race become steps.
    fn take_racing(&mut self, site: u32) {
        self.racing.push(site);
        for site in self.racing.drain(..) {
            if self.tells_all && !self.sites[site as usize].origin.is_own {
                continue;
            }
            let Site { is_step, origin, .. } = &self.sites[site as usize];
            if !is_step && !self.new_steps.contains(&site) && !origin.is_among(&self.mutes) {
                self.new_steps.push(site);
            }
        }
    }

    /// A thread is about to do a step in C that may call back.
    pub fn enter_call(&mut self, seat: Seat, call: InCall) {
        self.parties[seat as usize].call = Some(call);
    }

    /// A weak reference loses its object in this thread. Who asks it at the same time sees the one or the other, and no
    /// step says so.
    pub fn loses(&mut self, reference: *mut PyObject) {
        let seat = baton::seat();
        if self.is_unwinding || !(0..DRIVER).contains(&seat) {
            return;
        }
        let Some(site) = self.site_of(seat) else { return };
        let (thread, place) = (ThreadId(seat as u32), Place::structure(self.naming.number(reference, seat as usize)));
        self.lost.insert(place.object.0);
        self.visibility.access(thread, Action::Write, place, site, false, &mut self.racing);
        if !self.racing.is_empty() {
            self.miss_deaths();
            self.take_racing(site);
        }
    }

    fn miss_deaths(&mut self) {
        if let Some(explorer) = &mut self.explorer {
            explorer.untracked_order("when objects die that weak references point to");
        }
    }

    // --- flights: what is made once, and who waits for it

    /// A thread begins to make what others may wait for.
    pub fn begin_flight(&mut self, seat: Seat, number: u64) {
        let lock = self.new_lock(seat);
        self.flights.insert(number, lock);
        if let Some(explorer) = &mut self.explorer {
            explorer.hold(ThreadId(seat as u32), lock);
        }
    }

    /// It is made, or will not be.
    pub fn end_flight(&mut self, seat: Seat, number: u64) {
        if let Some(lock) = self.flights.get(&number).copied() {
            self.visibility.release(ThreadId(seat as u32), lock);
            self.parties[seat as usize].landed.push(lock);
        }
    }

    /// A lock of a flight that the thread has to give back.
    pub fn landed(&mut self, seat: Seat) -> Option<ObjectId> {
        if self.is_unwinding { None } else { self.parties[seat as usize].landed.pop() }
    }

    /// The lock of a flight.
    pub fn lock_of_flight(&self, number: u64) -> Option<ObjectId> {
        self.flights.get(&number).copied()
    }

    /// The label of a site.
    pub fn label(&mut self, site: u32) -> Label {
        let site = &mut self.sites[site as usize];
        if let Some(label) = site.label {
            return label;
        }
        let explorer = self.explorer.as_mut().expect("an exploration is under way");
        let label = explorer.label(&site.origin.name);
        if site.origin.is_among(&self.aims) {
            explorer.aim_at(label);
        }
        *site.label.insert(label)
    }

    /// The label of a name.
    pub fn label_named(&mut self, name: &str) -> Label {
        self.explorer.as_mut().expect("an exploration is under way").label(name)
    }

    /// Where a thread stands: the last instruction that it came to.
    pub fn label_of(&mut self, seat: Seat) -> Label {
        match self.parties[seat as usize].site {
            Some(site) => self.label(site),
            None => self.label_named("?"),
        }
    }

    // --- the runs

    /// A new exploration, aimed at some lines, and with no switches at others.
    pub fn open(&mut self, explorer: Explorer, is_replay: bool, aims: Vec<Lines>, mutes: Vec<Lines>) {
        (self.aims, self.mutes) = (aims, mutes);
        for name in &mut self.names {
            (name.is_written, name.is_of_types, name.is_coarse) = (false, false, false);
        }
        self.is_coarse = false;
        self.last_code = (0, 0);
        for code in self.entered.drain(..) {
            self.code_list[code as usize].is_entered = false;
        }
        // In a replay nothing is to be found out: the schedule knows the steps.
        self.is_any_written = is_replay;
        for site in &mut self.sites {
            site.label = None;
            site.is_step = explorer.knows_label(&site.origin.name);
        }
        self.explorer = Some(explorer);
        (self.tells_all, self.is_stale) = (false, false);
        self.new_steps.clear();
    }

    /// Before the state of a run is set up.
    pub fn clear(&mut self) {
        self.is_unwinding = false;
        (self.n_locks_of_setup, self.n_held_by_driver) = (0, 0);
        self.parties.clear();
        self.background.clear();
        self.told.clear();
        self.flights.clear();
        self.lost.clear();
        self.failure = None;
    }

    /// Adds a thread that begins with the run, or, after that, one that is started: its number.
    pub fn add_thread(&mut self, job: Job) -> usize {
        self.parties.push(Party { job: Some(job), ..Party::default() });
        self.parties.len() - 1
    }

    /// The state is set up: what a thread that begins with the run is called with.
    pub fn give_state(&mut self, thread: usize, state: Py<PyAny>) {
        if let Some(job) = &mut self.parties[thread].job {
            job.argument = Some(state);
        }
    }

    /// Has the thread ended?
    pub fn is_over(&self, seat: Seat) -> bool {
        self.parties.get(seat as usize).is_none_or(|party| party.is_over)
    }

    /// The last instruction that a thread came to in code that is seen.
    pub fn site_of(&self, seat: Seat) -> Option<u32> {
        self.parties[seat as usize].site
    }

    /// How many threads there are.
    pub fn n_threads(&self) -> usize {
        self.parties.len()
    }

    /// What a thread has to do.
    pub fn job(&mut self, seat: Seat) -> Option<Job> {
        self.parties[seat as usize].job.take()
    }

    /// The run begins: who goes first.
    pub fn begin(&mut self) -> Turn {
        let n = self.parties.len();
        self.visibility.begin(n);
        let next = self.explorer.as_mut().expect("an exploration is under way").begin(n);
        self.turn(next, DRIVER)
    }

    /// A thread says what it is about to do.
    pub fn announce(&mut self, seat: Seat, operation: Operation, label: Label) -> Turn {
        if self.is_unwinding || gate::is_asked_to_stop() {
            self.is_unwinding = true;
            return Turn::Over;
        }
        gate::count_step();
        self.parties[seat as usize].n_events = 0;
        let explorer = self.explorer.as_mut().expect("an exploration is under way");
        for thread in self.background.drain(..) {
            explorer.set_background(thread);
        }
        let next = explorer.announce(ThreadId(seat as u32), operation, label);
        self.turn(next, seat)
    }

    fn turn(&mut self, next: Next, seat: Seat) -> Turn {
        match next {
            Next::Run(thread) if thread.0 as Seat == seat => Turn::Mine,
            Next::Run(thread) => Turn::Of(thread.0 as Seat),
            Next::Stop(_) => {
                self.is_unwinding = true;
                Turn::Over
            }
        }
    }

    /// A thread has ended, by itself or unwound: who has the baton next.
    pub fn leave(&mut self, seat: Seat) -> Seat {
        self.parties[seat as usize].is_over = true;
        if !self.is_unwinding {
            let label = self.label_named("end");
            match self.announce(seat, Operation::Exit, label) {
                Turn::Of(other) => return other,
                Turn::Mine => unreachable!("a thread does not go on after its end"),
                Turn::Over => {}
            }
        }
        self.unwound_next()
    }

    /// Who is unwound next; the driver if all have ended.
    pub fn unwound_next(&self) -> Seat {
        self.parties.iter().position(|party| !party.is_over).map_or(DRIVER, |idx| idx as Seat)
    }

    /// After a run: are there new steps, so that what was searched counts for nothing?
    pub fn settle(&mut self) -> bool {
        let is_stale = std::mem::take(&mut self.is_stale) || !self.new_steps.is_empty();
        for site in std::mem::take(&mut self.new_steps) {
            self.sites[site as usize].is_step = true;
        }
        is_stale
    }

    // --- what orders

    /// What a thread's last operation came to.
    pub fn effect(&self, seat: Seat) -> Effect {
        self.explorer.as_ref().map_or(Effect::Done, |explorer| explorer.effect(ThreadId(seat as u32)))
    }

    /// The order that synchronisation makes.
    pub fn order(&mut self) -> &mut Visibility {
        &mut self.visibility
    }

    /// The number of a new lock or condition, made by this thread; equal in equal runs.
    pub fn new_lock(&mut self, seat: Seat) -> ObjectId {
        let (owner, count) = match seat {
            DRIVER => (65, &mut self.n_locks_of_setup),
            _ => (seat as u32, &mut self.parties[seat as usize].n_locks),
        };
        *count = (*count + 1).min(LOCKS_OF_ONE - 1);
        ObjectId(LOCKS + owner * LOCKS_OF_ONE + *count)
    }

    /// Remembers more of the step that a thread has just been granted.
    pub fn tell(&mut self, value: Option<String>, note: Option<(String, String, u32)>) {
        let explorer = self.explorer.as_ref().expect("an exploration is under way");
        let step = explorer.trace().steps.len().saturating_sub(1);
        self.told.push(Told { step, value, note });
    }
}
