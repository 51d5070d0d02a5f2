//! A stream of events with any number of subscribers. Memory is bounded and a publisher never waits: there is one ring
//! of the latest events, and each subscriber has a place in it.
//!
//! # What is dropped
//! A subscriber that falls behind by more than the ring holds misses the oldest events; it is told how many. Events
//! come to each subscriber in the order of their numbers, each at most once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number in the stream, from 1, without gaps.
    pub seq: u64,
    /// When, in seconds since 1970.
    pub at_s: f64,
    /// What sort of thing.
    pub topic: String,
    /// What is known about it: a JSON text.
    pub payload: String,
}

/// Called when there may be something new; it must not block, nor use the stream.
pub type Waker = Box<dyn FnOnce() + Send>;

struct Held {
    ring: VecDeque<Arc<Event>>,
    /// The number of the next event.
    next: u64,
    is_closed: bool,
    /// At most one for each subscriber.
    wakers: BTreeMap<u64, Waker>,
    n_subscribers: u64,
}

/// The ring.
pub struct Stream {
    events_max: usize,
    held: Mutex<Held>,
    has_news: Condvar,
}

/// What a subscriber finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next event.
    Event(Arc<Event>),
    /// There is none yet.
    Nothing,
    /// The stream was closed, and everything was read.
    Closed,
}

/// A place in a stream.
#[derive(Debug)]
pub struct Cursor {
    id: u64,
    next: u64,
    n_lost: u64,
}

/// Whose place it is, and which event comes next there.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    id: u64,
    next: u64,
}

impl Cursor {
    /// This place, for [`Stream::wake_later`].
    #[must_use]
    pub fn place(&self) -> Place {
        Place { id: self.id, next: self.next }
    }

    /// The number of the event that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many events were dropped before this subscriber came to read them.
    #[must_use]
    pub fn n_lost(&self) -> u64 {
        self.n_lost
    }
}

impl Stream {
    /// Holds the latest `events_max` events.
    #[must_use]
    pub fn new(events_max: usize) -> Self {
        let held = Held { ring: VecDeque::new(), next: 1, is_closed: false, wakers: BTreeMap::new(), n_subscribers: 0 };
        Self { events_max: events_max.max(1), held: Mutex::new(held), has_news: Condvar::new() }
    }

    /// Adds an event, and returns its number; `None` if the stream is closed.
    pub fn publish(&self, at_s: f64, topic: String, payload: String) -> Option<u64> {
        let (seq, dropped, wakers) = {
            let mut held = self.held.lock();
            if held.is_closed {
                return None;
            }
            let seq = held.next;
            held.next += 1;
            let dropped = if held.ring.len() == self.events_max { held.ring.pop_front() } else { None };
            held.ring.push_back(Arc::new(Event { seq, at_s, topic, payload }));
            (seq, dropped, std::mem::take(&mut held.wakers))
        };
        drop(dropped);
        self.tell(wakers);
        Some(seq)
    }

    /// Ends the stream. Subscribers still read what is in the ring.
    pub fn close(&self) {
        let wakers = {
            let mut held = self.held.lock();
            held.is_closed = true;
            std::mem::take(&mut held.wakers)
        };
        self.tell(wakers);
    }

    fn tell(&self, wakers: BTreeMap<u64, Waker>) {
        self.has_news.notify_all();
        wakers.into_values().for_each(|wake| wake());
    }

    /// A subscriber that reads events from now on; with `replay`, first the latest `replay` of those in the ring.
    #[must_use]
    pub fn subscribe(&self, replay: usize) -> Cursor {
        let mut held = self.held.lock();
        held.n_subscribers += 1;
        Cursor { id: held.n_subscribers, next: held.next - replay.min(held.ring.len()) as u64, n_lost: 0 }
    }

    /// The next event, if there is one.
    pub fn poll(&self, cursor: &mut Cursor) -> Next {
        self.next_of(&self.held.lock(), cursor)
    }

    /// Waits until there is something for a subscriber that read everything before event `next`, or until `deadline`;
    /// says whether there is.
    pub fn wait_for(&self, next: u64, deadline: Option<Instant>) -> bool {
        let mut held = self.held.lock();
        let is_there = |held: &Held| next < held.next || held.is_closed;
        while !is_there(&held) {
            match deadline {
                Some(deadline) if self.has_news.wait_until(&mut held, deadline).timed_out() => break,
                Some(_) => {}
                None => self.has_news.wait(&mut held),
            }
        }
        is_there(&held)
    }

    /// Waits for the next event until `deadline`; without one, as long as it takes.
    pub fn wait(&self, cursor: &mut Cursor, deadline: Option<Instant>) -> Next {
        self.wait_for(cursor.next, deadline);
        self.poll(cursor)
    }

    /// Leaves a waker to be called with the next event, in the place of an earlier one of this subscriber, unless there
    /// is something to read already; says whether it was left.
    pub fn wake_later(&self, place: Place, waker: Waker) -> bool {
        let mut held = self.held.lock();
        let is_left = place.next == held.next && !held.is_closed;
        // What is dropped may be anything, so it is dropped after the lock.
        let unused = if is_left { held.wakers.insert(place.id, waker) } else { Some(waker) };
        drop(held);
        drop(unused);
        is_left
    }

    fn next_of(&self, held: &Held, cursor: &mut Cursor) -> Next {
        let oldest = held.next - held.ring.len() as u64;
        if cursor.next < oldest {
            cursor.n_lost += oldest - cursor.next;
            cursor.next = oldest;
        }
        match held.ring.get((cursor.next - oldest) as usize) {
            Some(event) => {
                cursor.next += 1;
                Next::Event(Arc::clone(event))
            }
            None if held.is_closed => Next::Closed,
            None => Next::Nothing,
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("events_max", &self.events_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    fn publish(stream: &Stream, n: u64) {
        stream.publish(n as f64, "t".to_owned(), n.to_string());
    }

    fn seq(next: Next) -> u64 {
        match next {
            Next::Event(event) => event.seq,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_subscriber_misses_the_oldest_and_is_told_how_many() {
        let stream = Stream::new(3);
        let (mut slow, mut quick) = (stream.subscribe(0), stream.subscribe(0));
        for n in 1..=5 {
            publish(&stream, n);
            assert_eq!(seq(stream.poll(&mut quick)), n);
        }
        assert_eq!([(); 3].map(|()| seq(stream.poll(&mut slow))), [3, 4, 5]);
        assert_eq!((slow.n_lost(), quick.n_lost()), (2, 0));
        assert_eq!(stream.poll(&mut slow), Next::Nothing);
    }

    #[test]
    fn a_late_subscriber_can_ask_for_the_latest() {
        let stream = Stream::new(3);
        (1..=5).for_each(|n| publish(&stream, n));
        assert_eq!(seq(stream.poll(&mut stream.subscribe(2))), 4);
        assert_eq!(seq(stream.poll(&mut stream.subscribe(99))), 3);
        assert_eq!(stream.poll(&mut stream.subscribe(0)), Next::Nothing);
    }

    #[test]
    fn a_closed_stream_is_read_to_its_end() {
        let stream = Stream::new(3);
        let mut cursor = stream.subscribe(0);
        publish(&stream, 1);
        stream.close();
        assert_eq!(stream.publish(2.0, "t".to_owned(), "2".to_owned()), None);
        assert_eq!(seq(stream.wait(&mut cursor, None)), 1);
        assert_eq!(stream.wait(&mut cursor, None), Next::Closed);
    }

    #[test]
    fn waiting_ends_with_an_event_or_with_the_deadline() {
        let stream = Stream::new(3);
        let mut cursor = stream.subscribe(0);
        let deadline = Instant::now() + Duration::from_millis(10);
        assert_eq!(stream.wait(&mut cursor, Some(deadline)), Next::Nothing);
        std::thread::scope(|scope| {
            scope.spawn(|| publish(&stream, 1));
            assert_eq!(seq(stream.wait(&mut cursor, None)), 1);
        });
    }

    #[test]
    fn a_waker_is_called_once_and_is_not_left_where_there_is_something_to_read() {
        let stream = Stream::new(3);
        let mut cursor = stream.subscribe(0);
        let calls = Arc::new(AtomicU64::new(0));
        let waker = || -> Waker {
            let calls = Arc::clone(&calls);
            Box::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(stream.wake_later(cursor.place(), waker()));
        publish(&stream, 1);
        publish(&stream, 2);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(!stream.wake_later(cursor.place(), waker()));
        assert_eq!(seq(stream.poll(&mut cursor)), 1, "looking moved nothing");
    }

    #[test]
    fn every_subscriber_gets_every_event_in_order_while_many_publish() {
        let stream = Stream::new(100_000);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut cursor = stream.subscribe(0);
                let stream = &stream;
                scope.spawn(move || {
                    for expected in 1..=4_000 {
                        assert_eq!(seq(stream.wait(&mut cursor, None)), expected);
                    }
                    assert_eq!(cursor.n_lost(), 0);
                });
            }
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|n| publish(&stream, n)));
            }
        });
    }
}
