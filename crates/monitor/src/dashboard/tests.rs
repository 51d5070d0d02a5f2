//! The server over a real socket, asked in plain HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::incident::{Report, Severity};
use crate::store::Sample;
use crate::writer::Access;

const SOON: Duration = Duration::from_secs(30);

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

fn server() -> Dashboard {
    let writer = Arc::new(Writer::new(":memory:".into()));
    Dashboard::start(0, Source { writer, here: None }).unwrap()
}

fn send(dashboard: &Dashboard, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", dashboard.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    // The server may reset a connection whose request it did not read to the end.
    let _ = stream.read_to_string(&mut reply);
    reply
}

fn ask(dashboard: &Dashboard, method: &str, path: &str, host: &str, token: &str) -> Reply {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    let reply = send(dashboard, &request);
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let headers = rest.lines().filter_map(|line| line.split_once(": "));
    Reply {
        status: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

fn get(dashboard: &Dashboard, path: &str) -> Reply {
    ask(dashboard, "GET", path, &format!("127.0.0.1:{}", dashboard.port()), dashboard.token())
}

#[test]
fn data_is_for_those_who_know_the_token() {
    let dashboard = server();
    let host = format!("localhost:{}", dashboard.port());
    let nearly = format!("{}x", &dashboard.token()[1..]);
    for path in ["/api/overview", "/api/series", "/metrics", "/api/none"] {
        for token in ["", "x", &nearly] {
            let reply = ask(&dashboard, "GET", path, &host, token);
            assert_eq!((reply.status, reply.body.contains("token")), (401, true), "{path}");
        }
    }
    assert_eq!(ask(&dashboard, "POST", "/api/incidents/x/resolve", &host, "").status, 401);
    assert_eq!(get(&dashboard, "/api/overview").status, 200);
}

#[test]
fn tokens_are_long_and_never_the_same() {
    let (one, other) = (server(), server());
    assert_ne!(one.token(), other.token());
    assert_eq!(one.token().len(), TOKEN_BYTES * 2);
    assert!(one.url().ends_with(&format!("/#token={}", one.token())));
}

#[test]
fn a_foreign_host_is_refused_even_with_the_token() {
    let dashboard = server();
    let port = dashboard.port();
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1", "127.0.0.1:1", ""] {
        for path in ["/", "/api/overview"] {
            assert_eq!(ask(&dashboard, "GET", path, host, dashboard.token()).status, 421, "{host}{path}");
        }
    }
    let twice = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil\r\nConnection: close\r\n\r\n");
    assert!(!send(&dashboard, &twice).starts_with("HTTP/1.1 200"));
}

#[test]
fn the_page_holds_no_token_and_may_load_nothing_from_elsewhere() {
    let dashboard = server();
    let reply = ask(&dashboard, "GET", "/", &format!("127.0.0.1:{}", dashboard.port()), "");
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains(dashboard.token()));
    assert!(reply.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    assert_eq!(reply.headers["cache-control"], "no-store");
    for file in ["/page.js", "/page.css", "/uplot.js", "/uplot.css", "/uplot-LICENSE"] {
        assert_eq!(get(&dashboard, file).status, 200, "{file}");
    }
    for own in ["/", "/page.js", "/page.css"] {
        let body = get(&dashboard, own).body;
        let foreign = body.match_indices("http").filter(|(at, _)| !body[*at..].starts_with("http://www.w3.org/"));
        assert_eq!(foreign.count(), 0, "{own} names another server");
    }
}

fn report(writer: &Writer) -> uuid::Uuid {
    let report = Report {
        kind: "long-hold".to_owned(),
        title: "held </script> \"long\"".to_owned(),
        severity: Severity::Warning,
        fingerprint: None,
        context: "{\"lock\":\"db\"}".to_owned(),
        process: "app:1".to_owned(),
    };
    writer.call(Access::Writes, SOON, move |store| store.report(report, 5.0)).unwrap().id
}

#[test]
fn incidents_are_shown_and_can_be_changed() {
    let writer = Arc::new(Writer::new(":memory:".into()));
    let dashboard = Dashboard::start(0, Source { writer: Arc::clone(&writer), here: None }).unwrap();
    let id = report(&writer);
    let host = format!("127.0.0.1:{}", dashboard.port());
    let post = |path: String| ask(&dashboard, "POST", &path, &host, dashboard.token());
    assert!(get(&dashboard, "/api/overview").body.contains("\"context\":{\"lock\":\"db\"}"));
    let changed = post(format!("/api/incidents/{id}/acknowledge"));
    assert_eq!((changed.status, changed.body.as_str()), (200, "{\"changed\":true}"));
    assert_eq!(post(format!("/api/incidents/{id}/resolve")).status, 200);
    assert_eq!(post(format!("/api/incidents/{id}/acknowledge")).status, 409);
    assert_eq!(post(format!("/api/incidents/{}/resolve", uuid::Uuid::new_v4())).status, 404);
    assert_eq!(post("/api/incidents/1/resolve".to_owned()).status, 404);
    assert_eq!(post(format!("/api/incidents/{id}/delete")).status, 404);
    assert_eq!(get(&dashboard, &format!("/api/incidents/{id}/resolve")).status, 404);
    let overview = get(&dashboard, "/api/overview").body;
    assert!(overview.contains("\"state\":\"resolved\"") && overview.contains("\"actor\":\"dashboard\""));
}

#[test]
fn another_process_is_shown_as_it_was_last_and_this_one_as_it_is() {
    let writer = Arc::new(Writer::new(":memory:".into()));
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let keep = move |store: &crate::store::Store| {
        let sample = Sample { name: "rss".to_owned(), at_s: now_s, value: 5.0 };
        store.sample("other app:1", now_s, "{\"threads\":[\"then\"]}", &[sample])
    };
    writer.call(Access::Writes, SOON, keep).unwrap();
    let (live, registry) = (Arc::new(Live::default()), Arc::new(Registry::new(10)));
    registry.record(now_s, [("rss".to_owned(), 7.0)]);
    live.show(now_s, "{\"threads\":[\"now\"]}".to_owned(), "# EOF\n".to_owned());
    let here = Here { process: "me:2".to_owned(), live, registry };
    let dashboard = Dashboard::start(0, Source { writer, here: Some(here) }).unwrap();
    assert!(get(&dashboard, "/api/overview").body.contains("\"now\""));
    assert!(get(&dashboard, "/api/overview?process=other%20app%3A1").body.contains("\"then\""));
    assert!(get(&dashboard, "/api/series").body.contains("[7.0]"));
    assert!(get(&dashboard, "/api/series?process=other%20app%3A1").body.contains("[5.0]"));
    assert_eq!(get(&dashboard, "/metrics").body, "# EOF\n");
}

#[test]
fn a_huge_or_odd_request_is_refused_and_others_are_served_on() {
    let dashboard = server();
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX * 2));
    assert!(!send(&dashboard, &huge).starts_with("HTTP/1.1 200"));
    assert!(!send(&dashboard, "nonsense\r\n\r\n").starts_with("HTTP/1.1 200"));
    let _idle = TcpStream::connect(("127.0.0.1", dashboard.port())).unwrap();
    assert_eq!(get(&dashboard, "/").status, 200);
}

#[test]
fn a_server_that_is_stopped_is_gone_at_once_and_a_taken_port_is_said() {
    let dashboard = server();
    let port = dashboard.port();
    let writer = Arc::new(Writer::new(":memory:".into()));
    let taken = Dashboard::start(port, Source { writer, here: None }).unwrap_err();
    assert!(taken.to_string().contains(&port.to_string()));
    let _idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let before = Instant::now();
    dashboard.stop();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
