"""The page: over HTTP, and in a real headless browser where there is one (`RACEPROOF_BROWSER` names another).

Each test names the sentence of docs/guide/monitor.md that it holds.
"""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from browser import Browser, find_browser

from raceproof import HealthMonitor, IncidentManager, monitor
from raceproof.monitor import AuditLog, BackgroundCollector, Configuration, EventStream, Source

needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="NO BROWSER: the page was not looked at, only its HTTP; install chromium"
)


@pytest.fixture(autouse=True)
def store(tmp_path):
    path = tmp_path / "monitor.db"
    monitor.use_store(path)
    for singleton in (HealthMonitor, IncidentManager, AuditLog, EventStream, BackgroundCollector, Configuration):
        singleton.reset()
    Configuration.instance().update(interval_s=0.05, store_interval_s=0.05, objects_interval_s=0.05)
    yield path
    HealthMonitor.instance().stop()
    BackgroundCollector.instance().stop()
    monitor.use_store(":memory:")


def ask(port, path, token=None, method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    if token is not None:
        connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    reply = connection.getresponse()
    body = reply.read().decode()
    connection.close()
    return reply.status, body


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found


def a_program_with_troubles():
    """Something to show: locks, a pool, metrics, and incidents of each severity."""
    health, manager = HealthMonitor.instance(), IncidentManager.instance()
    lock = {"name": "orders.db", "holder": "worker-2", "waiters": 3, "held_s": 0.02, "wait_p99_s": 0.03}
    health.add_source(Source("lock", lambda: [lock | {"wait_p50_s": 4e-4, "hold_p50_s": 2e-4, "hold_p99_s": 0.011}]))
    health.add_source(Source("pool", lambda: [{"name": "io", "queued": 9, "limit": 64, "workers": 8, "active": 7}]))
    health.set_metric("orders_per_second", 93.5)
    manager.raise_incident_now('a title with <b>markup</b> & "quotes"', kind="lost-exception", severity="critical")
    for _ in range(3):
        manager.raise_incident_now("lock `orders.db` is slow", kind="long-hold", context={"lock": "orders.db"})
    return manager.raise_incident_now("pool `io` has no room", kind="pool-saturation", severity="info")


def test_the_server_is_for_this_machine_and_for_who_has_the_token():
    """Data is for who has the token; a foreign Host is refused even so; it listens on 127.0.0.1 only."""
    with monitor.serve() as page:
        assert page.url == f"http://127.0.0.1:{page.port}/#token={page.token}"
        for token in (None, "", "x", page.token[:-1]):
            assert ask(page.port, "/api/overview", token)[0] == 401
        assert ask(page.port, "/api/overview", page.token)[0] == 200
        assert ask(page.port, "/api/overview", page.token, host=f"evil.example:{page.port}")[0] == 421
        assert ask(page.port, "/", host="evil.example")[0] == 421
        for address in {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
            if not address.startswith("127."):
                with pytest.raises(OSError):
                    socket.create_connection((address, page.port), timeout=5)


def test_the_page_shows_this_process_as_it_is():
    """serve() shows threads, locks, pools and incidents as they are now, and metrics for Prometheus."""
    a_program_with_troubles()
    with monitor.serve() as page:
        overview = wait_for(
            lambda: (said := json.loads(ask(page.port, "/api/overview", page.token)[1]))["live"] and said
        )
        assert {thread["name"] for thread in overview["live"]["threads"]} >= {"MainThread", "raceproof-collector"}
        assert "orders.db" in {lock["name"] for lock in overview["live"]["locks"]}
        assert overview["live"]["pools"][0]["queued"] == 9
        assert len(overview["incidents"]) == 3
        series = json.loads(ask(page.port, "/api/series", page.token)[1])
        assert series["orders_per_second"][1][-1] == 93.5
        status, text = ask(page.port, "/metrics", page.token)
        assert (status, text.endswith("# EOF\n"), "orders_per_second" in text) == (200, True, True)


def test_incidents_can_be_acknowledged_from_the_page():
    """What is acknowledged or resolved over HTTP is durable, and in the audit log as done by `dashboard`."""
    incident = a_program_with_troubles()
    with monitor.serve() as page:
        for verb, status in (("acknowledge", 200), ("resolve", 200), ("acknowledge", 409), ("delete", 404)):
            path = f"/api/incidents/{incident.id}/{verb}"
            assert ask(page.port, path, page.token, "POST")[0] == status
            assert ask(page.port, path, "wrong", "POST")[0] == 401
    assert asyncio.run(IncidentManager.instance().get_incident(incident.id)).state == "resolved"
    entries = asyncio.run(AuditLog.instance().entries())
    assert [(entry.actor, entry.action) for entry in entries] == [
        ("dashboard", "incident.acknowledge"),
        ("dashboard", "incident.resolve"),
    ]


def test_a_page_that_is_stopped_is_gone():
    """stop() ends the server and its connections, and frees the port; a second stop() does nothing."""
    page = monitor.serve()
    idle = socket.create_connection(("127.0.0.1", page.port))
    page.stop()
    page.stop()
    try:
        assert idle.recv(1) == b""
    except ConnectionResetError:
        pass  # As gone as can be.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", page.port), timeout=5)
    idle.close()
    monitor.serve(page.port).stop()


def test_a_port_that_is_taken_is_said():
    """A port that is taken is a MonitorError."""
    with monitor.serve() as page, pytest.raises(monitor.MonitorError, match=str(page.port)):
        monitor.serve(page.port)


FORKED = """
import os, socket, sys
from raceproof import monitor
monitor.use_store(":memory:")
page = monitor.serve()
ours, theirs = os.pipe()
is_ready, ready = os.pipe()
child = os.fork()
if child == 0:
    os.close(theirs)
    os.write(ready, b"x")
    os.read(ours, 1)
    os._exit(0)
os.read(is_ready, 1)  # the child has left its fork behind: before that it may not have run at all
page.stop()
try:
    socket.create_connection(("127.0.0.1", page.port), timeout=5)
    print("still there")
except OSError:
    print("gone")
os.write(theirs, b"x")
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_serves_no_page():
    """The child of a fork serves no page, and does not hold the port."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "gone", done.stderr


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "raceproof", "dashboard", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_shows_a_store_from_another_process(store):
    """`raceproof dashboard` shows what processes have written: incidents, samples, and what was alive."""
    a_program_with_troubles()
    HealthMonitor.instance().sample()
    process = command("--store", store)
    try:
        url, token = process.stdout.readline().strip().split("/#token=")
        port = int(url.rsplit(":", 1)[1])
        overview = json.loads(ask(port, "/api/overview", token)[1])
        assert len(overview["incidents"]) == 3
        assert "orders.db" in {lock["name"] for lock in overview["live"]["locks"]}
        assert overview["process"].endswith(f":{os.getpid()}")
        assert "orders_per_second" in json.loads(ask(port, "/api/series", token)[1])
        assert ask(port, "/metrics", token)[0] == 404
    finally:
        process.kill()
        process.communicate()


def test_the_command_says_that_there_is_no_store(tmp_path):
    """Without a store `raceproof dashboard` says so, ends with 2, and makes none."""
    process = command("--store", tmp_path / "none.db")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "there is no store at" in said) == (2, True)
    assert not (tmp_path / "none.db").exists()


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_in_a_browser(tmp_path, width, dark):
    """In a browser: everything is shown as text, nothing is loaded from elsewhere, and the token leaves the address."""
    a_program_with_troubles()
    with monitor.serve() as page, Browser(find_browser(), width, 900, dark) as browser:
        browser.open(page.url)
        browser.wait_for("document.body && document.body.dataset.ready === 'yes'")
        browser.wait_for("document.querySelectorAll('.chart canvas').length >= 6")
        text = browser.evaluate("document.body.innerText")
        for expected in ("<b>markup</b>", "orders.db", "worker-2", "MainThread", "orders_per_second", "live"):
            assert expected in text
        assert browser.evaluate("location.href") == f"http://127.0.0.1:{page.port}/"
        assert browser.evaluate("document.querySelectorAll('article b').length") == 0
        assert browser.evaluate("document.querySelectorAll('.incident').length") == 3
        # Nothing is wider than the screen.
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        drawn = (
            "[...document.querySelectorAll('.chart canvas')].every(c => "
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v))"
        )
        assert browser.evaluate(drawn)
        ours = (f"http://127.0.0.1:{page.port}/", "data:", "about:")
        assert [url for url in browser.requests if not url.startswith(ours)] == []
        assert browser.complaints == []
        browser.screenshot(tmp_path / "page.png")


@needs_browser
def test_incidents_are_handled_in_a_browser():
    """In a browser: buttons acknowledge and resolve, and resolved incidents are shown on demand."""
    incident = a_program_with_troubles()
    card = f"document.querySelector('[data-id=\"{incident.id}\"]')"
    with monitor.serve() as page, Browser(find_browser()) as browser:
        browser.open(page.url)
        browser.wait_for(card)
        browser.evaluate(f"{card}.querySelector('button').click()")
        browser.wait_for(f"{card}.classList.contains('acknowledged')")
        browser.evaluate(f"{card}.querySelector('button').click()")
        browser.wait_for(f"!{card}")
        browser.evaluate("document.getElementById('with-resolved').click()")
        browser.wait_for(f"{card}.classList.contains('resolved')")
    assert asyncio.run(IncidentManager.instance().get_incident(incident.id)).state == "resolved"


@needs_browser
def test_without_a_token_the_page_says_what_to_do():
    """Without the token the page shows no data and says where the token is."""
    a_program_with_troubles()
    with monitor.serve() as page, Browser(find_browser()) as browser:
        browser.open(page.url.split("#")[0])
        browser.wait_for("document.getElementById('notice')?.hidden === false")
        text = browser.evaluate("document.body.innerText")
        assert "Open the address that raceproof printed" in text
        assert "orders.db" not in text
