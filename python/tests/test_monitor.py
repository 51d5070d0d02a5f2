"""Incidents, the audit log and alerts: durable, in order, and never in the way of an event loop.

Each test names the sentence of docs/guide/monitor.md that it holds.
"""

import asyncio
import dataclasses
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from raceproof import HealthMonitor, IncidentManager, RaceproofError, WaitTimeout, monitor
from raceproof.monitor import (
    AlertCorrelator,
    AuditLog,
    Configuration,
    EventStream,
    Incident,
    MonitorError,
    StoreBusy,
)
from raceproof.monitor import incidents as incidents_module

SINGLETONS = (HealthMonitor, IncidentManager, AuditLog, AlertCorrelator, EventStream)


@pytest.fixture(autouse=True)
def store(tmp_path):
    """A store of its own for each test, and fresh singletons."""
    path = tmp_path / "state" / "monitor.db"
    monitor.use_store(path)
    for singleton in SINGLETONS:
        singleton.reset()
    yield path
    monitor.use_store(":memory:")


@dataclasses.dataclass
class Outage:
    id: uuid.UUID
    title: str = "the disk is full"
    severity: str = "high"
    host: str = "db-1"


def run(coroutine):
    return asyncio.run(coroutine)


def script(text, *arguments, **keywords):
    """Runs a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)], capture_output=True, text=True, timeout=90, **keywords
    )


HOLDER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


class Locked:
    """Another process writes to the store, until `release`. (A second SQLite in this process would not keep us out.)"""

    def __init__(self, path):
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout.readline() == "held\n"

    def release(self):
        self._process.communicate(timeout=60)


def sql(path, statement):
    """What a statement returns, in a process of its own."""
    text = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "print(c.execute(sys.argv[2]).fetchall()); c.commit(); c.close()"
    )
    done = script(text, path, statement)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_interface_of_the_guide():
    """The names and results of the guide hold: add, get, get all, remove."""

    async def use():
        manager = await IncidentManager.get_instance()
        assert manager is await IncidentManager.get_instance()
        outage = Outage(uuid.uuid4())
        assert await manager.add_incident(outage) is None
        assert await manager.get_incident(outage.id) is outage
        assert await manager.get_incident(uuid.uuid4()) is None
        assert await manager.get_all_incidents() == [outage]
        assert await manager.remove_incident(outage.id) is True
        assert await manager.remove_incident(outage.id) is False
        assert await manager.get_all_incidents() == []

    run(use())


def test_ids_that_are_no_uuid_work_too():
    """An id may be a text or a number; it stands for the same incident everywhere."""

    @dataclasses.dataclass
    class Ticket:
        id: object

    async def use():
        manager = IncidentManager.instance()
        tickets = [Ticket("T-1"), Ticket(1), Ticket("1")]
        for ticket in tickets:
            await manager.add_incident(ticket)
        assert [await manager.get_incident(ticket.id) for ticket in tickets] == tickets

    run(use())


def test_a_later_process_gets_the_fields(store):
    """Another process gets an `Incident` with the fields of the object in its context."""
    outage = Outage(uuid.uuid4())
    run(IncidentManager.instance().add_incident(outage))
    text = (
        "import asyncio, sys; from raceproof import IncidentManager, monitor; monitor.use_store(sys.argv[1]);"
        "i, = asyncio.run(IncidentManager.instance().get_all_incidents());"
        "print(i.id, i.kind, i.title, i.severity, i.state, i.count, i.context)"
    )
    found = script(text, store)
    assert found.stdout.strip() == f"{outage.id} Outage the disk is full error open 1 {{'host': 'db-1'}}", found.stderr


def test_an_incident_added_again_keeps_its_state():
    """To add an incident again replaces its fields and keeps state, count and first time."""

    async def use():
        manager = IncidentManager.instance()
        outage = Outage(uuid.uuid4())
        await manager.add_incident(outage)
        before = await manager.get_record(outage.id)
        await manager.acknowledge(outage.id, "ann")
        await manager.add_incident(dataclasses.replace(outage, title="the disk is still full"))
        record = await manager.get_record(outage.id)
        assert (record.title, record.state) == ("the disk is still full", "acknowledged")
        assert record.first_seen == before.first_seen

    run(use())


def test_reports_are_counted_until_resolved():
    """Reports of one fingerprint count on one incident until it is resolved; the worst severity stays."""

    async def use():
        manager = IncidentManager.instance()
        first = await manager.raise_incident("slow", kind="query", severity="error", context={"n": 1})
        second = await manager.raise_incident("slow", kind="query", severity="info", context={"n": 2})
        assert (second.id, second.count, second.severity, second.context) == (first.id, 2, "error", {"n": 2})
        assert await manager.acknowledge(first.id, "ann") is True
        assert await manager.acknowledge(first.id, "bob") is False
        assert (await manager.raise_incident("slow", kind="query")).state == "acknowledged"
        assert await manager.resolve(first.id, "ann") is True
        assert await manager.resolve(first.id, "ann") is False
        with pytest.raises(MonitorError, match="resolved"):
            await manager.acknowledge(first.id)
        with pytest.raises(KeyError):
            await manager.resolve(uuid.uuid4())
        with pytest.raises(ValueError, match="severity"):
            await manager.raise_incident("odd", severity="purple")
        again = await manager.raise_incident("slow", kind="query")
        assert (again.count, again.state, again.id != first.id) == (1, "open", True)

    run(use())


def test_incidents_are_values():
    """An `Incident` can be compared, hashed, pickled and printed, and nobody can change it."""
    incident = IncidentManager.instance().raise_incident_now("slow")
    assert pickle.loads(pickle.dumps(incident)) == incident
    assert {incident: 1}[incident] == 1
    assert "slow" in repr(incident)
    with pytest.raises(dataclasses.FrozenInstanceError):
        incident.state = "resolved"
    assert isinstance(incident, Incident)


def test_threads_and_loops_lose_no_report(together):
    """Reports from any number of threads and event loops are all counted: each is one step."""
    n = 25

    async def reports():
        manager = await IncidentManager.get_instance()
        await asyncio.gather(*(manager.raise_incident("slow") for _ in range(n)))

    def blocking():
        for _ in range(n):
            IncidentManager.instance().raise_incident_now("slow")

    together(lambda: run(reports()), lambda: run(reports()), blocking, blocking)
    (incident,) = run(IncidentManager.instance().get_all_incidents())
    assert incident.count == 4 * n


def test_a_caller_reads_what_was_written_before(together):
    """Calls take effect one after another, in the order of the commits: what returned is seen by every later call."""
    outages = [Outage(uuid.uuid4()) for _ in range(30)]
    added = threading.Semaphore(0)

    def add():
        for outage in outages:
            run(IncidentManager.instance().add_incident(outage))
            added.release()

    def read():
        for outage in outages:
            added.acquire()
            assert run(IncidentManager.instance().get_incident(outage.id)) is outage

    together(add, read)


def test_an_event_loop_is_not_blocked_by_the_disk():
    """While the store works, the event loop runs on."""

    async def use():
        loop, lags = asyncio.get_running_loop(), []
        await IncidentManager.instance().raise_incident("first")
        held = Locked(monitor.store_path())
        pending = asyncio.ensure_future(IncidentManager.instance().raise_incident("waits for another process"))
        for _ in range(20):
            before = loop.time()
            await asyncio.sleep(0.01)
            lags.append(loop.time() - before - 0.01)
        assert not pending.done()
        held.release()
        await pending
        # Half, since the machine may be busy.
        assert sorted(lags)[len(lags) // 2] < 0.1

    run(use())


def test_a_timeout_is_wait_timeout(store):
    """A call that takes longer than its timeout raises WaitTimeout, for coroutines and threads."""
    manager = IncidentManager.instance()
    manager.raise_incident_now("first")
    held = Locked(store)
    before = time.monotonic()
    with pytest.raises(WaitTimeout):
        manager.raise_incident_now("late", timeout=0.1)
    with pytest.raises(TimeoutError):
        run(manager.raise_incident("late", timeout=0.1))
    assert time.monotonic() - before < 5
    held.release()
    # The work was still done: said in the page.
    (_, late) = run(manager.get_all_incidents())
    assert late.count == 2


def test_a_full_queue_is_said(store):
    """More than 4096 calls wait: StoreBusy for who does not wait, and room later for who does."""
    manager = IncidentManager.instance()
    manager.raise_incident_now("first")
    held = Locked(store)
    with pytest.raises(StoreBusy):
        for _ in range(6000):
            manager.raise_incident_soon("many")

    async def wait():
        pending = asyncio.ensure_future(manager.raise_incident("patient"))
        await asyncio.sleep(0.05)
        held.release()
        return await pending

    assert run(wait()).count == 1


def test_a_cancelled_call_may_still_be_done(store):
    """A call that is cancelled may still be done, and later calls work."""
    manager = IncidentManager.instance()
    manager.raise_incident_now("first")
    held = Locked(store)

    async def cancel():
        task = asyncio.ensure_future(manager.raise_incident("cancelled"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())
    held.release()
    titles = [incident.title for incident in run(manager.get_all_incidents())]
    assert titles == ["first", "cancelled"]


CRASHER = """
import asyncio, sys
from raceproof import IncidentManager, monitor
monitor.use_store(sys.argv[1])

async def work(n):
    for k in range(100_000):
        incident = await IncidentManager.instance().raise_incident(f"{n}-{k}")
        print(incident.id, flush=True)
        await IncidentManager.instance().acknowledge(incident.id, "crasher")
        print("acknowledged", incident.id, flush=True)

async def main():
    await asyncio.gather(*(work(n) for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_loses_nothing_that_was_acknowledged(store, seed):
    """A process that is killed between two calls has lost nothing that it was told is kept."""
    process = subprocess.Popen([sys.executable, "-c", CRASHER, str(store)], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline().split()]
    end = time.monotonic() + random.Random(seed).random()
    while time.monotonic() < end or sum(line[0] == "acknowledged" for line in lines) < 20:
        lines.append(process.stdout.readline().split())
    os.kill(process.pid, signal.SIGKILL)
    lines += [line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    process.wait()
    acknowledged = {line[1] for line in lines if line[0] == "acknowledged"}
    kept = {str(incident.id): incident.state for incident in run(IncidentManager.instance().get_all_incidents())}
    assert {line[0] for line in lines if len(line) == 1} <= set(kept)
    assert {kept[id_] for id_ in acknowledged} == {"acknowledged"}
    assert run(AuditLog.instance().verify()) is None


REPORTER = """
import sys
from raceproof import IncidentManager, monitor
monitor.use_store(sys.argv[1])
for _ in range(40):
    IncidentManager.instance().raise_incident_now("slow")
"""


def test_processes_count_on_one_incident(store):
    """Reports of several processes at once are counted on one incident, and none is lost."""
    processes = [subprocess.Popen([sys.executable, "-c", REPORTER, str(store)]) for _ in range(3)]
    assert [process.wait(90) for process in processes] == [0, 0, 0]
    (incident,) = run(IncidentManager.instance().get_all_incidents())
    assert incident.count == 120
    assert incident.process.startswith("-c:")


def test_user_code_runs_under_no_lock():
    """User code that is called for a report may use the monitor itself."""

    class Nested:
        def __str__(self):
            return IncidentManager.instance().raise_incident_now("inner").title

    context = IncidentManager.instance().raise_incident_now("outer", context={"nested": Nested()}).context
    assert context == {"nested": "inner"}


def test_of_old_objects_the_record_comes_back(monkeypatch):
    """Objects beyond the limit are forgotten, the oldest first; their records are kept."""
    monkeypatch.setattr(incidents_module, "OBJECTS_MAX", 2)
    outages = [Outage(uuid.uuid4()) for _ in range(3)]

    async def use():
        manager = IncidentManager.instance()
        for outage in outages:
            await manager.add_incident(outage)
        return [await manager.get_incident(outage.id) for outage in outages]

    oldest, *others = run(use())
    assert others == outages[1:]
    assert (type(oldest), oldest.id, oldest.context) == (Incident, outages[0].id, {"host": "db-1"})


def test_changes_of_an_object_are_kept_when_it_is_added_again():
    """Changes of an added object are not written until it is added again."""

    async def use():
        manager, outage = IncidentManager.instance(), Outage(uuid.uuid4())
        await manager.add_incident(outage)
        outage.host = "db-9"
        before = (await manager.get_record(outage.id)).context
        await manager.add_incident(outage)
        return before, (await manager.get_record(outage.id)).context

    assert run(use()) == ({"host": "db-1"}, {"host": "db-9"})


def test_what_cannot_be_json_is_kept_as_text():
    """Context that is no JSON is kept as its text, an object that cannot even be printed by the name of its class."""

    class Odd:
        def __repr__(self):
            raise RuntimeError("no")

    loop = []
    loop.append(loop)
    manager = IncidentManager.instance()
    kept = manager.raise_incident_now("odd", context={"set": {1}, "id": uuid.UUID(int=0)}).context
    assert kept == {"set": [1], "id": str(uuid.UUID(int=0))}
    for strange in ({"nan": float("nan")}, {"loop": loop}, {(1, 2): 3}, {"odd": Odd()}):
        assert "repr" in manager.raise_incident_now("odd", context=strange).context
    long = manager.raise_incident_now("long", context={"text": "x" * 1_000_000}).context
    assert len(json.dumps(long)) < 100_000


def test_the_store_may_be_in_memory():
    """`:memory:` keeps everything in this process only."""
    monitor.use_store(":memory:")
    incident = IncidentManager.instance().raise_incident_now("here")
    assert run(IncidentManager.instance().get_incident(incident.id)) == incident
    assert not os.path.exists(":memory:")
    monitor.use_store(":memory:")
    assert run(IncidentManager.instance().get_all_incidents()) == []


def test_a_store_that_cannot_be_had_is_an_error(tmp_path):
    """A file that cannot be written, or that is none of ours, is a MonitorError for each call."""
    (tmp_path / "file").write_text("x" * 5000)
    for path in (tmp_path / "file", tmp_path / "file" / "below.db"):
        monitor.use_store(path)
        with pytest.raises(MonitorError):
            IncidentManager.instance().raise_incident_now("lost")
        with pytest.raises(RaceproofError):
            run(IncidentManager.instance().get_all_incidents())


def test_the_audit_log_is_a_chain(store):
    """Entries are in the order of the commits; one that is changed or taken out of the middle is found."""

    async def use():
        log = await AuditLog.get_instance()
        entries = await asyncio.gather(*(log.record("ann", "login", str(n), {"n": n}) for n in range(10)))
        assert [entry.seq for entry in entries] == list(range(1, 11))
        assert (await log.entries(after=8))[0] == entries[8]
        assert await log.verify() is None
        return log

    log = run(use())
    assert log.record_now("bob", "logout").seq == 11
    sql(store, "UPDATE audit SET actor = 'eve' WHERE seq = 4")
    assert run(log.verify()) == 4


def test_changes_of_incidents_are_audited():
    """Who acknowledges, resolves or removes an incident is in the audit log, in the same commit."""

    async def use():
        manager = IncidentManager.instance()
        incident = await manager.raise_incident("slow")
        await manager.acknowledge(incident.id, "ann")
        await manager.resolve(incident.id, "bob")
        await manager.remove_incident(incident.id)
        return [(entry.actor, entry.action) for entry in await AuditLog.instance().entries()]

    *changes, (_, removed) = run(use())
    assert changes == [("ann", "incident.acknowledge"), ("bob", "incident.resolve")]
    assert removed == "incident.remove"


def test_alerts_of_one_cause_are_one_incident(together):
    """Alerts that share a label in the window are one incident; others are others."""

    async def use():
        correlator = await AlertCorrelator.get_instance()
        first = await correlator.alert("`db` is slow", labels={"host": "db-1"}, severity="info")
        second = await correlator.alert("timeouts", labels={"host": "db-1", "service": "shop"}, severity="error")
        third = await correlator.alert("no orders", labels={"service": "shop"})
        other = await correlator.alert("backup is late", labels={"host": "db-2"})
        assert first.id == second.id == third.id != other.id
        assert (third.severity, third.title) == ("error", "`db` is slow (and 2 more alerts)")
        assert third.context["labels"] == ["host=db-1", "service=shop"]

    run(use())
    alert = AlertCorrelator.instance().alert
    found = together(*(lambda: run(alert("again", labels={"service": "mail"})) for _ in range(4)))
    assert len({incident.id for incident in found}) == 1


def test_alerts_beyond_the_window_are_another_incident():
    """An alert that comes later than the window begins another incident."""
    settings = Configuration.instance()
    before = settings.get("correlation_window_s")
    settings.update(correlation_window_s=0.05)
    try:
        first = run(AlertCorrelator.instance().alert("slow", labels={"host": "db-1"}))
        time.sleep(0.1)
        assert run(AlertCorrelator.instance().alert("slow", labels={"host": "db-1"})).id != first.id
    finally:
        settings.update(correlation_window_s=before)


FORKED = """
import asyncio, os, sys, threading
from raceproof import HealthMonitor, IncidentManager, monitor
monitor.use_store(sys.argv[1])
manager, health = IncidentManager.instance(), HealthMonitor.instance()
health.start(0.02)
stop = threading.Event()

def busy():
    while not stop.is_set():
        manager.raise_incident_now("busy")

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
health.set_metric("set", 1)
for n in range(10):
    child = os.fork()
    if child == 0:
        assert IncidentManager.instance() is manager
        assert monitor.EventStream.instance().subscribe(replay=9).get(0) is None
        manager.raise_incident_now(f"child {n}")
        assert not monitor.BackgroundCollector.instance().running
        assert asyncio.run(health.get_metric("set")) == 1
        health.start(0.02)
        assert monitor.BackgroundCollector.instance().running
        monitor.close_store()
        os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
stop.set()
for thread in threads:
    thread.join()
found = asyncio.run(manager.get_all_incidents())
print(sorted(incident.title for incident in found if incident.title.startswith("child")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_has_a_connection_of_its_own(store):
    """A child of a fork keeps metrics and singletons, opens the store anew, collects after start() only, and begins
    with an empty stream; incidents of both are kept."""
    done = script(FORKED, store)
    assert done.stdout.strip() == str([f"child {n}" for n in range(10)]), done.stderr
    assert sql(store, "PRAGMA integrity_check") == "[('ok',)]"


def test_what_was_asked_for_before_the_end_is_kept(store):
    """At the end of the interpreter what was asked for is still written, and threads of ours do not hold it up."""
    text = (
        "import sys; from raceproof import HealthMonitor, IncidentManager, monitor; monitor.use_store(sys.argv[1]);"
        "HealthMonitor.instance().start(0.02); page = monitor.serve();"
        "[IncidentManager.instance().raise_incident_soon(f'last {n}') for n in range(200)]"
    )
    before = time.monotonic()
    done = script(text, store)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - before < 30
    assert len(run(IncidentManager.instance().get_all_incidents())) == 200


def test_what_a_pool_lost_until_the_end_is_kept(store):
    """An exception that is found to be lost only at the end of the interpreter is still an incident."""
    text = (
        "import sys, raceproof; from raceproof import monitor; monitor.use_store(sys.argv[1]);"
        "raceproof.HealthMonitor.instance().start(10); pool = raceproof.Pool(1); held = pool.submit(lambda: 1 / 0)"
    )
    done = script(text, store)
    (incident,) = run(IncidentManager.instance().get_all_incidents())
    assert "ZeroDivisionError" in incident.title, done.stderr


def test_what_is_not_used_is_not_loaded():
    """Importing `raceproof` does not load the monitor, nor asyncio."""
    done = script("import sys, raceproof; print('asyncio' in sys.modules, 'raceproof.monitor' in sys.modules)")
    assert done.stdout.strip() == "False False"


def test_the_store_opens_again_after_its_end(store):
    """Calls that come when the interpreter has nearly ended open the store again."""
    text = (
        "import atexit, sys\n"
        "def last():\n    manager.raise_incident_now('very late'); manager.raise_incident_soon('later still')\n"
        "atexit.register(last)\n"
        "from raceproof import IncidentManager, monitor\n"
        "monitor.use_store(sys.argv[1])\nmanager = IncidentManager.instance()\n"
    )
    done = script(text, store)
    assert (done.returncode, done.stderr) == (0, "")
    titles = [incident.title for incident in run(IncidentManager.instance().get_all_incidents())]
    assert titles == ["very late", "later still"]


def test_a_subinterpreter_refuses_the_package():
    """Subinterpreters cannot import the package: ImportError."""
    text = (
        "import sys\n"
        "try:\n    import _interpreters as interpreters\n"
        "except ImportError:\n    import _xxsubinterpreters as interpreters\n"
        "made = interpreters.create()\n"
        "code = 'try:\\n import raceproof.monitor\\nexcept ImportError:\\n print(\"refused\", flush=True)'\n"
        "failed = interpreters.run_string(made, code)\n"
        "assert failed is None, failed\n"
    )
    done = script(text)
    assert done.stdout.strip() == "refused", done.stderr
