//! A pool of threads for closures.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::crew::{Crew, Rejected, Stats};
use super::progress::{Progress, Status};

/// Why a closure was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full, and stayed so as long as the caller wanted to wait.
    Full,
    /// The pool is shut down.
    Closed,
    /// The system gave no thread to run it.
    NoThread,
}

/// Why a task has no result.
#[derive(Debug)]
pub enum TaskError {
    /// It was cancelled before it ran.
    Cancelled,
    /// It panicked; the text of the panic.
    Panicked(String),
    /// It had not ended in time.
    TimedOut,
    /// Its result was taken before.
    Taken,
}

/// A task that had not ended when the pool was shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StillRunning {
    /// The name that it was submitted with.
    pub name: String,
    /// The number of the thread, from 0.
    pub worker: usize,
    /// For how long it had run.
    pub runs_for: Duration,
}

type Lost = dyn Fn(&str, &str) + Send + Sync;

/// What waits in the queue, without its type.
trait Job: Send + Sync {
    fn name(&self) -> &str;
    fn run(&self);
    fn cancel(&self) -> bool;
}

struct Shared<T> {
    name: String,
    progress: Progress,
    closure: Mutex<Option<Box<dyn FnOnce() -> T + Send>>>,
    outcome: Mutex<Option<Result<T, String>>>,
    lost: Arc<Lost>,
}

impl<T: Send> Job for Shared<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self) {
        let closure = self.closure.lock().take();
        let (Some(closure), Ok(())) = (closure, self.progress.begin()) else { return };
        let outcome = catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| text(payload.as_ref()));
        *self.outcome.lock() = Some(outcome);
        // Nobody but this worker ends a task that runs.
        let _ = self.progress.finish(false);
    }

    fn cancel(&self) -> bool {
        let cancelled = self.progress.cancel(false).is_ok();
        if cancelled {
            drop(self.closure.lock().take());
        }
        cancelled
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(Err(panic)) = self.outcome.get_mut() {
            (self.lost)(&self.name, panic);
        }
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

/// A submitted closure. Dropping it does not stop the closure; a panic that was not asked for is reported then.
pub struct Task<T> {
    shared: Arc<Shared<T>>,
    crew: Arc<Crew<Arc<dyn Job>>>,
}

impl<T: Send + 'static> Task<T> {
    /// Waits for the end and takes the result. `timeout`: wait no longer; `None` waits for ever.
    pub fn result(&self, timeout: Option<Duration>) -> Result<T, TaskError> {
        self.shared.progress.wait_until(timeout.map(|timeout| Instant::now() + timeout));
        match self.shared.progress.status() {
            Status::Cancelled => Err(TaskError::Cancelled),
            Status::Finished => match self.shared.outcome.lock().take() {
                Some(outcome) => outcome.map_err(TaskError::Panicked),
                None => Err(TaskError::Taken),
            },
            Status::Pending | Status::Running => Err(TaskError::TimedOut),
        }
    }

    /// Cancels the task if no thread has begun it; says whether it is cancelled.
    pub fn cancel(&self) -> bool {
        if self.shared.cancel() {
            let mine = Arc::as_ptr(&self.shared).cast::<()>();
            drop(self.crew.remove(|job| Arc::as_ptr(job).cast::<()>() == mine));
        }
        self.status() == Status::Cancelled
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.shared.progress.status()
    }
}

/// A bounded pool of threads. Dropping it lets what was submitted run to its end, without waiting for it.
pub struct Pool {
    crew: Arc<Crew<Arc<dyn Job>>>,
    name: String,
    lost: Arc<Lost>,
}

impl Pool {
    /// A pool of at most `workers_max` threads with at most `queue_max` tasks that wait. `lost` is called with the name
    /// and the text of each panic that nobody asked for.
    pub fn new(
        name: &str,
        workers_max: usize,
        queue_max: usize,
        lost: impl Fn(&str, &str) + Send + Sync + 'static,
    ) -> Self {
        Pool { crew: Arc::new(Crew::new(workers_max, queue_max)), name: name.to_owned(), lost: Arc::new(lost) }
    }

    /// Hands a closure to the pool. While the queue is full it waits, at most for `timeout`; `None` waits for ever.
    pub fn submit<T: Send + 'static>(
        &self,
        name: &str,
        timeout: Option<Duration>,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Task<T>, PoolError> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            progress: Progress::default(),
            closure: Mutex::new(Some(Box::new(closure))),
            outcome: Mutex::new(None),
            lost: Arc::clone(&self.lost),
        });
        let job: Arc<dyn Job> = shared.clone();
        let worker = match self.crew.push(job, timeout.map(|timeout| Instant::now() + timeout)) {
            Ok(worker) => worker,
            Err(Rejected::Closed(_)) => return Err(PoolError::Closed),
            Err(Rejected::Full(_)) => return Err(PoolError::Full),
        };
        if let Some(worker) = worker {
            self.start(worker)?;
        }
        Ok(Task { shared, crew: Arc::clone(&self.crew) })
    }

    fn start(&self, worker: usize) -> Result<(), PoolError> {
        let crew = Arc::clone(&self.crew);
        let work = move || {
            while let Some(job) = crew.next(worker) {
                job.run();
            }
            crew.retire(worker);
        };
        let started = std::thread::Builder::new().name(format!("{}-{worker}", self.name)).spawn(work);
        if started.is_ok() {
            return Ok(());
        }
        let stranded = self.crew.retire(worker);
        let failed = !stranded.is_empty();
        for job in stranded {
            job.cancel();
        }
        if failed { Err(PoolError::NoThread) } else { Ok(()) }
    }

    /// Counts, all of one moment.
    pub fn stats(&self) -> Stats {
        self.crew.stats()
    }

    /// Takes no more closures, cancels those that wait if `cancel_pending`, and waits until the rest has run, at most
    /// until `deadline` from now. Returns what still runs: nothing, if all have ended.
    pub fn shutdown(&self, deadline: Option<Duration>, cancel_pending: bool) -> Vec<StillRunning> {
        let deadline = deadline.map(|deadline| Instant::now() + deadline);
        for job in self.crew.close(cancel_pending) {
            job.cancel();
        }
        if self.crew.wait_ended(deadline) {
            return Vec::new();
        }
        let running = self.crew.running().into_iter().map(|running| StillRunning {
            name: running.job.name().to_owned(),
            worker: running.worker,
            runs_for: running.since.elapsed(),
        });
        running.collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.crew.close(false);
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Pool, PoolError, TaskError};
    use std::sync::{Arc, Barrier, Mutex};
    use std::time::Duration;

    const SOON: Option<Duration> = Some(Duration::from_millis(30));

    fn pool(workers: usize, queue: usize) -> (Pool, Arc<Mutex<Vec<String>>>) {
        let lost = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lost);
        let report = move |name: &str, panic: &str| heard.lock().unwrap().push(format!("{name}: {panic}"));
        (Pool::new("test", workers, queue, report), lost)
    }

    #[test]
    fn results_come_back_in_whatever_order_they_are_asked_for() {
        let (pool, lost) = pool(3, 4);
        let tasks: Vec<_> = (0..50).map(|n| pool.submit("square", None, move || n * n).unwrap()).collect();
        for (n, task) in tasks.iter().enumerate().rev() {
            assert_eq!(task.result(None).unwrap(), n * n);
            assert!(matches!(task.result(None), Err(TaskError::Taken)));
        }
        assert!(pool.shutdown(None, false).is_empty());
        assert!(lost.lock().unwrap().is_empty());
    }

    #[test]
    fn a_panic_reaches_who_asks_and_is_reported_if_nobody_does() {
        let (pool, lost) = pool(1, 4);
        let asked = pool.submit("asked", None, || -> u8 { panic!("one") }).unwrap();
        assert!(matches!(asked.result(None), Err(TaskError::Panicked(text)) if text == "one"));
        drop(asked);
        drop(pool.submit("dropped", None, || -> u8 { panic!("two") }).unwrap());
        assert!(pool.shutdown(None, false).is_empty());
        assert_eq!(*lost.lock().unwrap(), ["dropped: two"]);
    }

    #[test]
    fn a_full_queue_a_cancelled_task_and_a_deadline() {
        let (pool, _) = pool(1, 1);
        let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (begun_there, go_there) = (Arc::clone(&begun), Arc::clone(&go));
        let slow = pool.submit("slow", None, move || {
            begun_there.wait();
            go_there.wait();
        });
        begun.wait();
        let waiting = pool.submit("waiting", None, || 1).unwrap();
        assert_eq!(pool.submit("third", SOON, || 2).err(), Some(PoolError::Full));
        assert!(waiting.cancel() && !slow.as_ref().unwrap().cancel());
        assert!(matches!(waiting.result(None), Err(TaskError::Cancelled)));
        let next = pool.submit("next", SOON, || 3).unwrap();
        assert!(matches!(next.result(SOON), Err(TaskError::TimedOut)));
        let still = pool.shutdown(SOON, true);
        assert_eq!(still.len(), 1);
        assert_eq!((still[0].name.as_str(), still[0].worker), ("slow", 0));
        assert!(still[0].runs_for >= Duration::from_millis(30));
        assert!(matches!(next.result(None), Err(TaskError::Cancelled)));
        assert_eq!(pool.submit("late", None, || 4).err(), Some(PoolError::Closed));
        go.wait();
        assert!(pool.shutdown(None, false).is_empty());
    }
}
