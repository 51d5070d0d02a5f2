//! The one thread that talks to the store, and its bounded queue. Callers wait off the interpreter and off their event
//! loops; what was asked for is on the disk when their answer comes.
//!
//! Jobs are done in the order in which they were asked for, so a caller reads what it wrote. Jobs that wait together
//! share one commit: a hundred reports at once cost little more than one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::Error;
use crate::store::Store;

/// How many jobs may wait.
pub const QUEUE_MAX: usize = 4_096;
/// How many jobs share a commit at most.
const BATCH_MAX: usize = 256;

/// Runs inside the transaction, and leaves what is to be called after the commit.
type Job = Box<dyn FnOnce(Result<&Store, Error>) -> Completion + Send>;
/// Gets the reason if the commit failed.
type Completion = Box<dyn FnOnce(Option<Error>)>;

/// Does a job change the store?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only looks.
    Reads,
    /// It is done when it is on the disk.
    Writes,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Access, Job)>,
    is_closed: bool,
    thread: Option<JoinHandle<()>>,
    /// How many want the thread to rest.
    n_pauses: usize,
    /// The thread rests, and has closed the file.
    rests: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// For the thread: there are jobs, or it should rest, go on or end.
    has_jobs: Condvar,
    has_room: Condvar,
    has_rest: Condvar,
}

/// A handle on the store of one file. The thread starts with the first job.
pub struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Writer {
    /// Of the store in this file; it is opened with the first job.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            has_jobs: Condvar::new(),
            has_room: Condvar::new(),
            has_rest: Condvar::new(),
        };
        Self { path, shared: Arc::new(shared) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// How many jobs wait.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }

    /// Asks for a job; `done` is called on the writer's thread after the commit, with what came out. Waits for room in
    /// the queue until `deadline`; without one it does not wait.
    ///
    /// # Errors
    /// `Busy` if the queue had no room, `Closed` after [`Self::close`]; `done` is not called then.
    pub fn submit<T: Send + 'static>(
        &self,
        access: Access,
        deadline: Option<Instant>,
        run: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let job: Job = Box::new(move |store| {
            let result = store.and_then(|store| match access {
                Access::Reads => run(store),
                Access::Writes => store.part(run),
            });
            Box::new(move |failed| done(failed.map_or(result, Err)))
        });
        let mut queue = self.shared.queue.lock();
        while queue.jobs.len() >= QUEUE_MAX && !queue.is_closed {
            let is_late = match deadline {
                Some(deadline) => self.shared.has_room.wait_until(&mut queue, deadline).timed_out(),
                None => true,
            };
            if is_late {
                return Err(Error::Busy);
            }
        }
        if queue.is_closed {
            return Err(Error::Closed);
        }
        if queue.thread.is_none() {
            let (path, shared) = (self.path.clone(), Arc::clone(&self.shared));
            let thread = std::thread::Builder::new().name("raceproof-store".to_owned());
            let started = thread.spawn(move || work(&path, &shared));
            queue.thread = Some(started.map_err(|cause| Error::Storage(cause.to_string()))?);
        }
        queue.jobs.push_back((access, job));
        self.shared.has_jobs.notify_one();
        Ok(())
    }

    /// Asks for a job and waits until it is on the disk.
    ///
    /// # Errors
    /// What the job says; `Timeout` if it took longer, and it may still be done then.
    pub fn call<T: Send + 'static>(
        &self,
        access: Access,
        timeout: Duration,
        run: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + timeout;
        let (sender, receiver) = mpsc::sync_channel(1);
        // The receiver is gone if the caller gave up.
        self.submit(access, Some(deadline), run, move |result| drop(sender.send(result)))?;
        let rest = deadline.saturating_duration_since(Instant::now());
        receiver.recv_timeout(rest).unwrap_or(Err(Error::Timeout))
    }

    /// Closes the file after the jobs that are being done, until [`Self::resume`]; other jobs wait meanwhile. A process
    /// that forks calls this before: what SQLite knows of an open file must not come into the child.
    pub fn pause(&self) {
        let mut queue = self.shared.queue.lock();
        queue.n_pauses += 1;
        self.shared.has_jobs.notify_all();
        while queue.thread.is_some() && !queue.rests {
            self.shared.has_rest.wait(&mut queue);
        }
    }

    /// Ends a [`Self::pause`].
    pub fn resume(&self) {
        self.shared.queue.lock().n_pauses -= 1;
        self.shared.has_jobs.notify_all();
    }

    /// Does what waits, closes the file and ends the thread. Later jobs are refused.
    pub fn close(&self) {
        let thread = {
            let mut queue = self.shared.queue.lock();
            queue.is_closed = true;
            queue.thread.take()
        };
        self.shared.has_jobs.notify_all();
        self.shared.has_room.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in a job was told to its caller.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    /// What waits is still done, but nobody waits for it.
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.has_jobs.notify_all();
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

fn work(path: &std::path::Path, shared: &Shared) {
    let mut store: Option<Store> = None;
    while let Some(batch) = next_batch(shared, &mut store) {
        shared.has_room.notify_all();
        // A store that could not be opened is tried again with the next batch: the disk may have room by then.
        let opened = match store.take() {
            Some(open) => Ok(open),
            None => Store::open(path),
        };
        match opened {
            Ok(open) => {
                perform(&open, batch);
                store = Some(open);
            }
            Err(cause) => refuse(batch, &cause),
        }
    }
}

/// Waits for jobs; `None` is the end. Without a store while it rests.
fn next_batch(shared: &Shared, store: &mut Option<Store>) -> Option<Vec<(Access, Job)>> {
    let mut queue = shared.queue.lock();
    loop {
        if queue.n_pauses > 0 {
            if store.is_some() {
                let open = store.take();
                MutexGuard::unlocked(&mut queue, || drop(open));
                continue;
            }
            queue.rests = true;
            shared.has_rest.notify_all();
        } else if !queue.jobs.is_empty() {
            let n = queue.jobs.len().min(BATCH_MAX);
            return Some(queue.jobs.drain(..n).collect());
        } else if queue.is_closed {
            return None;
        }
        shared.has_jobs.wait(&mut queue);
        queue.rests = false;
    }
}

fn perform(store: &Store, batch: Vec<(Access, Job)>) {
    let writes = batch.iter().any(|(access, _)| *access == Access::Writes);
    if writes && let Err(cause) = store.begin() {
        return refuse(batch, &cause);
    }
    let completions: Vec<Completion> = batch.into_iter().map(|(_, job)| job(Ok(store))).collect();
    let failed = if writes { store.commit().err() } else { None };
    for complete in completions {
        complete(failed.clone());
    }
}

fn refuse(batch: Vec<(Access, Job)>, cause: &Error) {
    for (_, job) in batch {
        job(Err(cause.clone()))(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::audit::Record;

    const SOON: Duration = Duration::from_secs(30);

    fn record(n: usize) -> Record {
        Record { actor: "t".to_owned(), action: "n".to_owned(), subject: n.to_string(), details: "{}".to_owned() }
    }

    #[test]
    fn a_caller_reads_what_it_wrote_and_another_process_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor.db");
        let writer = Writer::new(path.clone());
        let entry = writer.call(Access::Writes, SOON, |store| store.append(record(1), 1.0)).unwrap();
        let expected = std::slice::from_ref(&entry);
        assert_eq!(writer.call(Access::Reads, SOON, |store| store.entries(0, 9)).unwrap(), expected);
        assert_eq!(Store::open(&path).unwrap().entries(0, 9).unwrap(), expected);
    }

    #[test]
    fn threads_and_writers_lose_nothing_and_the_chain_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor.db");
        let writers = [Writer::new(path.clone()), Writer::new(path)];
        std::thread::scope(|scope| {
            for n in 0..4 {
                let writer = &writers[n % 2];
                scope.spawn(move || {
                    for _ in 0..25 {
                        writer.call(Access::Writes, SOON, move |store| store.append(record(n), 1.0)).unwrap();
                    }
                });
            }
        });
        let entries = writers[0].call(Access::Reads, SOON, |store| store.entries(0, 1000)).unwrap();
        assert_eq!(entries.len(), 100);
        assert_eq!(writers[0].call(Access::Reads, SOON, Store::broken_entry).unwrap(), None);
    }

    #[test]
    fn a_full_queue_refuses_and_close_does_what_waits() {
        let writer = Arc::new(Writer::new(":memory:".into()));
        let done = Arc::new(AtomicUsize::new(0));
        let (release, held) = mpsc::channel::<()>();
        let (entered, is_inside) = mpsc::channel::<()>();
        let hold = move |_: &Store| {
            entered.send(()).unwrap();
            held.recv().unwrap();
            Ok(())
        };
        writer.submit(Access::Reads, None, hold, |_| ()).unwrap();
        is_inside.recv().unwrap();
        let count = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move |_| {
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        for _ in 0..QUEUE_MAX {
            writer.submit(Access::Writes, None, |_| Ok(()), count(&done)).unwrap();
        }
        assert_eq!(writer.n_waiting(), QUEUE_MAX);
        assert_eq!(writer.submit(Access::Writes, None, |_| Ok(()), |_| ()), Err(Error::Busy));
        let timeout = Duration::from_millis(20);
        assert_eq!(writer.call(Access::Writes, timeout, |_| Ok(())), Err(Error::Busy));
        release.send(()).unwrap();
        writer.close();
        assert_eq!(done.load(Ordering::Relaxed), QUEUE_MAX);
        assert_eq!(writer.call(Access::Writes, SOON, |_| Ok(())), Err(Error::Closed));
    }

    #[test]
    fn while_it_rests_the_file_is_closed_and_jobs_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor.db");
        let writer = Writer::new(path.clone());
        writer.pause();
        writer.resume();
        writer.call(Access::Writes, SOON, |store| store.append(record(1), 1.0)).unwrap();
        // The last connection that closes takes the files of the log along.
        let log = folder.path().join("monitor.db-wal");
        assert!(log.exists());
        writer.pause();
        assert!(!log.exists());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| writer.call(Access::Writes, SOON, |store| store.append(record(2), 2.0)));
            while writer.n_waiting() == 0 {
                std::thread::yield_now();
            }
            assert!(!log.exists());
            writer.resume();
            assert_eq!(job.join().unwrap().unwrap().seq, 2);
        });
        writer.pause();
        let ended = std::thread::scope(|scope| {
            let close = scope.spawn(|| writer.close());
            std::thread::sleep(Duration::from_millis(20));
            writer.resume();
            close.join()
        });
        assert!(ended.is_ok());
    }

    #[test]
    fn a_caller_that_gives_up_is_told_so() {
        let writer = Writer::new(":memory:".into());
        let slow = |_: &Store| {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        };
        assert_eq!(writer.call(Access::Writes, Duration::from_millis(20), slow), Err(Error::Timeout));
        assert_eq!(writer.call(Access::Writes, SOON, |_| Ok(1)), Ok(1));
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_an_error_for_each_caller() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let writer = Writer::new(file.join("monitor.db"));
        for _ in 0..2 {
            assert!(matches!(writer.call(Access::Writes, SOON, |_| Ok(())), Err(Error::Storage(_))));
        }
    }
}
