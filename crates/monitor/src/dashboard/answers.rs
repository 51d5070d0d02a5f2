//! What the server answers: the files of the page to anybody on this machine, data to those who know the token.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Site, Snapshot};
use crate::error::Error;
use crate::store::Store;
use crate::wire;
use crate::writer::Access;
use crate::{openmetrics, store};

/// How far back charts reach, in seconds.
const CHART_S: f64 = 3600.0;
/// How many incidents the page lists.
const INCIDENTS_SHOWN: i64 = 200;
/// How many entries of the audit log the page lists.
const AUDIT_SHOWN: i64 = 50;
/// The page runs its own scripts and styles, talks to its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files of the page: path, media type, text.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../../assets/index.html")),
    ("/page.js", SCRIPT, include_str!("../../assets/page.js")),
    ("/page.css", STYLE, include_str!("../../assets/page.css")),
    ("/uplot.js", SCRIPT, include_str!("../../assets/uplot.js")),
    ("/uplot.css", STYLE, include_str!("../../assets/uplot.css")),
    ("/uplot-LICENSE", "text/plain; charset=utf-8", include_str!("../../assets/uplot-LICENSE")),
];

type Answer = Response<Full<Bytes>>;

pub(super) async fn answer(site: &Site, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let mut answer = route(site, &request).await.unwrap_or_else(|error| failure(&error));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

async fn route(site: &Site, request: &Request<Incoming>) -> Result<Answer, Error> {
    if !is_here(site, request) {
        return Ok(text(StatusCode::MISDIRECTED_REQUEST, JSON, wire::error("this server is for this machine only")));
    }
    let path = request.uri().path();
    if request.method() == Method::GET
        && let Some((_, kind, file)) = FILES.iter().find(|(name, _, _)| *name == path)
    {
        return Ok(text(StatusCode::OK, kind, *file));
    }
    if !is_authorized(site, request) {
        let mut refused = text(StatusCode::UNAUTHORIZED, JSON, wire::error("the token is missing or wrong"));
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(refused);
    }
    let query = request.uri().query().unwrap_or("");
    match (request.method(), path) {
        (&Method::GET, "/api/overview") => overview(site, process_of(query)).await,
        (&Method::GET, "/api/series") => series(site, process_of(query)).await,
        (&Method::GET, "/metrics") => Ok(metrics(site)),
        (&Method::POST, _) => change(site, path).await,
        _ => Ok(not_found()),
    }
}

/// Does the `Host` header name this server? A name that an attacker's page resolves to 127.0.0.1 does not.
fn is_here(site: &Site, request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let port = site.address.port();
    [format!("127.0.0.1:{port}"), format!("localhost:{port}")].iter().any(|ours| host.as_bytes() == ours.as_bytes())
}

/// Is the token there? The comparison takes as long for a wrong one as for a nearly right one.
fn is_authorized(site: &Site, request: &Request<Incoming>) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    bool::from(given.as_bytes().ct_eq(site.token.as_bytes()))
}

/// The process that is asked for, `process=NAME`, with `%` escapes.
fn process_of(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|part| part.strip_prefix("process="))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => (digit()? * 16 + digit()?) as u8,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Asks the store without blocking the server.
async fn ask<T: Send + 'static>(
    site: &Site,
    access: Access,
    run: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    // The receiver is gone if the browser is.
    site.source.writer.submit(access, None, run, move |result| drop(sender.send(result)))?;
    receiver.await.unwrap_or(Err(Error::Closed))
}

/// The snapshot of the process that the server runs in, if that is the one asked for.
fn here<'a>(site: &'a Site, process: Option<&str>) -> Option<&'a super::Here> {
    site.source.here.as_ref().filter(|here| process.is_none_or(|process| process == here.process))
}

async fn overview(site: &Site, process: Option<String>) -> Result<Answer, Error> {
    let here = here(site, process.as_deref());
    let snapshot = here.and_then(|here| here.live.latest());
    let wanted = here.map(|here| here.process.clone()).or(process);
    let mut overview = ask(site, Access::Reads, move |store| {
        let processes = store.processes()?;
        let process = wanted.or_else(|| processes.first().map(|latest| latest.name.clone())).unwrap_or_default();
        Ok(wire::Overview {
            now_s: now_s(),
            live: store.live(&process)?,
            process,
            processes,
            incidents: store.incidents(INCIDENTS_SHOWN)?,
            audit: store.latest_entries(AUDIT_SHOWN)?,
        })
    })
    .await?;
    if let Some(here) = here
        && overview.processes.iter().all(|process| process.name != here.process)
    {
        let now_s = overview.now_s;
        overview.processes.insert(0, store::Process { name: here.process.clone(), last_seen_s: now_s });
    }
    if let Some(Snapshot { at_s, json, .. }) = snapshot {
        overview.live = Some((at_s, json));
    }
    Ok(text(StatusCode::OK, JSON, wire::overview(&overview)))
}

async fn series(site: &Site, process: Option<String>) -> Result<Answer, Error> {
    let since_s = now_s() - CHART_S;
    let samples = match here(site, process.as_deref()) {
        Some(here) => here.registry.since(since_s),
        None => {
            ask(site, Access::Reads, move |store| {
                let latest = store.processes()?.into_iter().next().map(|latest| latest.name);
                let process = process.or(latest).unwrap_or_default();
                store.samples(&process, since_s)
            })
            .await?
        }
    };
    Ok(text(StatusCode::OK, JSON, wire::series(&samples)))
}

fn metrics(site: &Site) -> Answer {
    match here(site, None).and_then(|here| here.live.latest()) {
        Some(snapshot) => text(StatusCode::OK, openmetrics::MEDIA_TYPE, snapshot.openmetrics),
        None => not_found(),
    }
}

/// `POST /api/incidents/ID/acknowledge` and `.../resolve`.
async fn change(site: &Site, path: &str) -> Result<Answer, Error> {
    let parts = path.strip_prefix("/api/incidents/").and_then(|rest| rest.split_once('/'));
    let Some((Ok(id), verb)) = parts.map(|(id, verb)| (Uuid::parse_str(id), verb)) else {
        return Ok(not_found());
    };
    let is_changed = match verb {
        "acknowledge" => ask(site, Access::Writes, move |store| store.acknowledge(id, "dashboard", now_s())).await?,
        "resolve" => ask(site, Access::Writes, move |store| store.resolve(id, "dashboard", now_s())).await?,
        _ => return Ok(not_found()),
    };
    Ok(text(StatusCode::OK, JSON, wire::changed(is_changed)))
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, JSON, wire::error("there is nothing here"))
}

fn failure(error: &Error) -> Answer {
    let status = match error {
        Error::Unknown(_) => StatusCode::NOT_FOUND,
        Error::Refused(_) => StatusCode::CONFLICT,
        Error::Storage(_) | Error::Newer { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Busy | Error::Timeout | Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, JSON, wire::error(&error.to_string()))
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
