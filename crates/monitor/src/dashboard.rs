//! The page that shows threads, locks, incidents and timelines, and the small HTTP server behind it.
//!
//! It listens on 127.0.0.1 only. The page itself holds no secret; every answer with data asks for the token, which is
//! made anew for each server and stands in the part of the address that browsers do not send (`#token=...`). The
//! `Host` header must name this machine, so that a page of somebody else cannot reach us by a name that it resolves to
//! 127.0.0.1. The page loads nothing from elsewhere, and its policy forbids it to.

mod answers;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::error::Error;
use crate::health::Registry;
use crate::writer::Writer;

/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// A request has to be there after this time, and an idle connection ends.
const REQUEST_MAX: Duration = Duration::from_secs(15);
/// All headers of a request together, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Random bytes of the token.
const TOKEN_BYTES: usize = 24;

/// What a process that shows itself hands to its page, about once a second.
#[derive(Debug, Default)]
pub struct Live {
    latest: Mutex<Option<Snapshot>>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    at_s: f64,
    json: String,
    openmetrics: String,
}

impl Live {
    /// Replaces what the page shows: the text of a JSON object, and the metrics in the OpenMetrics format.
    pub fn show(&self, at_s: f64, json: String, openmetrics: String) {
        *self.latest.lock() = Some(Snapshot { at_s, json, openmetrics });
    }

    fn latest(&self) -> Option<Snapshot> {
        self.latest.lock().clone()
    }
}

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Source {
    /// Incidents, the audit log, and processes that wrote samples.
    pub writer: Arc<Writer>,
    /// The process that the server runs in, if that is to be shown as it is now.
    pub here: Option<Here>,
}

/// A process that shows itself.
#[derive(Clone, Debug)]
pub struct Here {
    /// `name:pid`.
    pub process: String,
    /// Its threads and locks.
    pub live: Arc<Live>,
    /// Its numbers over time.
    pub registry: Arc<Registry>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Dashboard {
    address: SocketAddr,
    token: String,
    descriptor: i32,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// What the answers need.
struct Site {
    address: SocketAddr,
    token: String,
    source: Source,
}

impl Dashboard {
    /// Starts a server on 127.0.0.1, on a thread of its own; port 0 takes one that is free.
    ///
    /// # Errors
    /// If the port is taken or a thread cannot be had.
    pub fn start(port: u16, source: Source) -> Result<Self, Error> {
        let failed = |cause: std::io::Error| Error::Refused(format!("cannot serve on 127.0.0.1:{port}: {cause}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        #[cfg(unix)]
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&listener);
        #[cfg(not(unix))]
        let descriptor = -1;
        let token = token()?;
        let site = Arc::new(Site { address, token: token.clone(), source });
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let _ = tell.send(Ok(()));
                    runtime.block_on(serve(listener, site, stopped));
                }
                Err(cause) => drop(tell.send(Err(cause))),
            }
        };
        let thread = std::thread::Builder::new().name("raceproof-page".to_owned()).spawn(run).map_err(failed)?;
        told.recv().unwrap_or(Ok(())).map_err(failed)?;
        Ok(Self { address, token, descriptor, running: Mutex::new(Some((stop, thread))) })
    }

    /// The address to open, with the token.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.address, self.token)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The file descriptor that listens, for the child of a fork to close; -1 where there are none.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.descriptor
    }

    /// What `Authorization: Bearer` has to name.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ends the server and its connections. A second call does nothing.
    pub fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((stop, thread)) = running {
            // It has ended by itself if nobody listens any more.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    /// Waits until the server ends: for a process that does nothing else.
    pub fn join(&self) {
        let running = self.running.lock().take();
        if let Some((_stop, thread)) = running {
            let _ = thread.join();
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop();
    }
}

fn token() -> Result<String, Error> {
    let mut bytes = [0u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|cause| Error::Refused(format!("no random numbers: {cause}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn serve(listener: TcpListener, site: Arc<Site>, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // Out of file descriptors, for example: later there may be one.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                let answer = service_fn(|request| answers::answer(&site, request));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST_MAX)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), answer);
                // A browser that goes away is nothing to report.
                let _ = connection.await;
                drop(slot);
            });
        }
    };
    tokio::spawn(accept);
    // The tasks end with the runtime, which ends with this function.
    let _ = stopped.await;
}

#[cfg(test)]
mod tests;
