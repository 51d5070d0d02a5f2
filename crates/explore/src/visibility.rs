//! Which accesses have to be steps: those that race.
//!
//! An access that every run orders by locks, starts, ends and notifications against all conflicting ones commutes
//! with what the other threads do meanwhile, so that a choice of threads before it leads to no new outcome. This is
//! the reduction of CHESS (Musuvathi et al., OSDI 2008): only synchronisation and racing accesses are steps, and each
//! run is watched for new races. A site that is found to race becomes a step, and the search begins anew; so in the
//! end every run that was counted has been watched with the final set of steps.
//!
//! The clocks are those of FastTrack (Flanagan and Freund, PLDI 2009), but each place keeps the last access of every
//! thread and site: a run is short, and both sides of a race are to be named.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use facts::Action;

use crate::happens_before::Mixer;
use crate::operation::{Key, ObjectId, Place, ThreadId};

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// What synchronises: a lock, a condition, or an access that is a step itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Channel {
    Object(ObjectId),
    Reads(Place),
    Writes(Place),
}

#[derive(Clone, Copy, Debug)]
struct Last {
    thread: ThreadId,
    site: u32,
    writes: bool,
    at: u32,
}

type Clock = Vec<u32>;

fn join(clock: &mut Clock, other: &[u32]) {
    if clock.len() < other.len() {
        clock.resize(other.len(), 0);
    }
    for (mine, theirs) in clock.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}

/// The order of one run by its synchronisation, and the accesses that it leaves unordered.
#[derive(Clone, Debug, Default)]
pub struct Visibility {
    threads: Vec<Clock>,
    channels: Map<Channel, Clock>,
    places: Map<Place, Vec<Last>>,
    /// Which items of an object have been touched, for accesses to all of it.
    items: Map<ObjectId, Vec<Key>>,
}

impl Visibility {
    /// Back to the beginning of a run with this many threads.
    pub fn begin(&mut self, n_threads: usize) {
        self.threads.clear();
        self.channels.clear();
        self.places.clear();
        self.items.clear();
        for thread in 0..n_threads {
            self.enter(ThreadId(thread as u32));
        }
    }

    fn enter(&mut self, thread: ThreadId) -> &mut Clock {
        let n = thread.idx() + 1;
        if self.threads.len() < n {
            self.threads.resize(n, Vec::new());
        }
        let clock = &mut self.threads[n - 1];
        if clock.len() < n {
            clock.resize(n, 0);
        }
        clock[n - 1] = clock[n - 1].max(1);
        clock
    }

    fn tick(&mut self, thread: ThreadId) {
        self.threads[thread.idx()][thread.idx()] += 1;
    }

    fn publish(&mut self, thread: ThreadId, channel: Channel) {
        let clock = &self.threads[thread.idx()];
        join(self.channels.entry(channel).or_default(), clock);
    }

    fn receive(&mut self, thread: ThreadId, channel: Channel) {
        if let Some(theirs) = self.channels.get(&channel) {
            join(&mut self.threads[thread.idx()], theirs);
        }
    }

    /// A thread is started by another.
    pub fn spawn(&mut self, parent: ThreadId, child: ThreadId) {
        let clock = self.threads[parent.idx()].clone();
        self.threads.resize(self.threads.len().max(child.idx() + 1), Vec::new());
        self.threads[child.idx()] = clock;
        self.enter(child);
        self.tick(parent);
    }

    /// A thread has seen the end of another.
    pub fn join(&mut self, thread: ThreadId, child: ThreadId) {
        let theirs = self.threads[child.idx()].clone();
        join(&mut self.threads[thread.idx()], &theirs);
    }

    /// A lock is given back, or a condition notified: what comes after [`Visibility::acquire`] of it comes later.
    pub fn release(&mut self, thread: ThreadId, object: ObjectId) {
        self.publish(thread, Channel::Object(object));
        self.tick(thread);
    }

    /// A lock is taken, or a notification received.
    pub fn acquire(&mut self, thread: ThreadId, object: ObjectId) {
        self.receive(thread, Channel::Object(object));
    }

    /// An access that is a step orders what it conflicts with.
    pub fn step(&mut self, thread: ThreadId, action: Action, place: Place) {
        let all = Place { object: place.object, key: Key::Structure };
        for place in [Some(place), (place != all).then_some(all)].into_iter().flatten() {
            self.receive(thread, Channel::Writes(place));
            if action.writes() {
                self.receive(thread, Channel::Reads(place));
            }
        }
        self.publish(thread, if action.writes() { Channel::Writes(place) } else { Channel::Reads(place) });
        self.tick(thread);
    }

    /// An access, at a site in the program. The sites of earlier accesses of other threads that conflict with it are
    /// added to `racing`: those that nothing orders before it, or, if `asks_for_all`, all of them.
    pub fn access(
        &mut self,
        thread: ThreadId,
        action: Action,
        place: Place,
        site: u32,
        asks_for_all: bool,
        racing: &mut Vec<u32>,
    ) {
        let own = &self.threads[thread.idx()];
        let mut look = |lasts: &[Last]| {
            for last in lasts {
                let conflicts = last.thread != thread && (last.writes || action.writes());
                let is_before = own.get(last.thread.idx()).is_some_and(|seen| *seen >= last.at);
                if conflicts && (asks_for_all || !is_before) {
                    racing.push(last.site);
                }
            }
        };
        let all = Place { object: place.object, key: Key::Structure };
        let items = self.items.entry(place.object).or_default();
        if place == all {
            for key in items.iter() {
                look(self.places.get(&Place { object: place.object, key: *key }).map_or(&[], |lasts| &**lasts));
            }
        } else {
            look(self.places.get(&all).map_or(&[], |lasts| &**lasts));
        }
        let at = own[thread.idx()];
        let lasts = self.places.entry(place).or_insert_with(|| {
            if place != all {
                items.push(place.key);
            }
            Vec::new()
        });
        look(lasts);
        let writes = action.writes();
        let is_same = |last: &&mut Last| last.thread == thread && last.site == site && last.writes == writes;
        match lasts.iter_mut().find(is_same) {
            Some(last) => last.at = at,
            None => lasts.push(Last { thread, site, writes, at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: ThreadId = ThreadId(0);
    const T1: ThreadId = ThreadId(1);

    struct Run(Visibility);

    impl Run {
        fn new() -> Self {
            let mut visibility = Visibility::default();
            visibility.begin(2);
            Run(visibility)
        }

        fn racing(&mut self, thread: ThreadId, action: Action, place: Place, site: u32) -> Vec<u32> {
            let mut racing = Vec::new();
            self.0.access(thread, action, place, site, false, &mut racing);
            racing
        }
    }

    #[test]
    fn what_a_lock_orders_does_not_race() {
        let (place, lock) = (Place::item(1, 1), ObjectId(7));
        let mut run = Run::new();
        run.0.acquire(T0, lock);
        assert_eq!(run.racing(T0, Action::Write, place, 10), []);
        run.0.release(T0, lock);
        run.0.acquire(T1, lock);
        assert_eq!(run.racing(T1, Action::Read, place, 11), []);
        // After the release there is no order any more.
        assert_eq!(run.racing(T0, Action::Write, place, 12), [11]);
    }

    #[test]
    fn reads_do_not_race_and_both_sides_are_named() {
        let place = Place::item(1, 1);
        let mut run = Run::new();
        assert_eq!(run.racing(T0, Action::Read, place, 10), []);
        assert_eq!(run.racing(T1, Action::Read, place, 11), []);
        assert_eq!(run.racing(T1, Action::Write, place, 12), [10]);
    }

    #[test]
    fn all_of_a_container_meets_each_item() {
        let mut run = Run::new();
        assert_eq!(run.racing(T0, Action::Write, Place::item(1, 1), 10), []);
        assert_eq!(run.racing(T1, Action::Write, Place::item(1, 2), 11), []);
        assert_eq!(run.racing(T1, Action::Read, Place::structure(1), 12), [10]);
        assert_eq!(run.racing(T0, Action::Write, Place::item(1, 2), 13), [12, 11]);
    }

    #[test]
    fn starts_ends_and_steps_order() {
        let (flag, place) = (Place::item(1, 1), Place::item(1, 2));
        let mut run = Run::new();
        run.racing(T0, Action::Write, place, 10);
        run.0.step(T0, Action::Write, flag);
        run.0.step(T1, Action::Read, flag);
        assert_eq!(run.racing(T1, Action::Read, place, 11), []);
        let child = ThreadId(2);
        run.0.spawn(T1, child);
        assert_eq!(run.racing(child, Action::Write, place, 12), []);
        assert_eq!(run.racing(T1, Action::Read, place, 13), [12]);
        run.0.join(T1, child);
        assert_eq!(run.racing(T1, Action::Read, place, 14), []);
    }
}
