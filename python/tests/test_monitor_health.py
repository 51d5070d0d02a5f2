"""Metrics, sampling, figures, events, settings, and the incidents that nobody has to report.

Each test names the sentence of docs/guide/monitor.md that it holds.
"""

import asyncio
import gc
import itertools
import sys
import threading
import time

import pytest

import raceproof
from raceproof import HealthMonitor, IncidentManager, WaitTimeout, _native, monitor
from raceproof.monitor import BackgroundCollector, Configuration, EventStream, PerformanceFigures, Source
from raceproof.monitor import health as health_module

SINGLETONS = (HealthMonitor, IncidentManager, EventStream, PerformanceFigures, BackgroundCollector, Configuration)


@pytest.fixture(autouse=True)
def fresh():
    """Singletons and a store of its own for each test."""
    hooks = threading.excepthook, sys.unraisablehook
    monitor.use_store(":memory:")
    for singleton in SINGLETONS:
        singleton.reset()
    yield
    HealthMonitor.instance().stop()
    BackgroundCollector.instance().stop()
    threading.excepthook, sys.unraisablehook = hooks


def run(coroutine):
    return asyncio.run(coroutine)


def incidents(kind):
    found = run(IncidentManager.instance().get_all_incidents())
    return [incident for incident in found if incident.kind == kind]


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


def test_the_interface_of_the_guide():
    """update_metric, get_metric and get_all_metrics behave as the guide says; values may be anything."""

    async def use():
        health = await HealthMonitor.get_instance()
        assert health is await HealthMonitor.get_instance() is HealthMonitor.instance()
        value = object()
        assert await health.update_metric("cpu", 0.5) is None
        await health.update_metric("who", value)
        assert await health.get_metric("cpu") == 0.5
        assert await health.get_metric("who") is value
        assert await health.get_metric("none") is None
        everything = await health.get_all_metrics()
        everything["cpu"] = 1
        assert await health.get_all_metrics() == {"cpu": 0.5, "who": value}

    run(use())


def test_all_metrics_are_of_one_moment(together):
    """get_all_metrics is a snapshot: what was set later is not there without what was set earlier."""
    health = HealthMonitor.instance()
    health.set_metric("first", 0)
    health.set_metric("second", 0)

    def write():
        for n in range(1, 5000):
            health.set_metric("first", n)
            health.set_metric("second", n)

    async def read():
        for _ in range(2000):
            found = await health.get_all_metrics()
            assert found["first"] >= found["second"]

    together(write, lambda: run(read()), lambda: run(read()))


def test_threads_and_loops_update_at_once(together):
    """Updates from any number of threads and loops are all there, and nothing waits."""

    def update(thread):
        async def use():
            health = await HealthMonitor.get_instance()
            for n in range(500):
                await health.update_metric(f"{thread}.{n}", n)

        run(use())

    together(*(lambda thread=thread: update(thread) for thread in range(4)))
    assert len(run(HealthMonitor.instance().get_all_metrics())) == 2000


def test_a_sample_has_what_the_process_says_of_itself():
    """A sample has threads, memory, objects, the store's queue, and numbers of the program; not what is no number."""
    health = HealthMonitor.instance()
    health.set_metric("orders", 7)
    health.set_metric("name", "shop")
    health.set_metric("flag", True)
    sample = health.sample()
    assert sample["raceproof_threads"] == threading.active_count()
    assert sample["raceproof_objects"] > 1000
    assert sample["orders"] == 7
    assert not {"name", "flag"} & set(sample)
    if sys.platform == "linux":
        assert 1e6 < sample["raceproof_rss_bytes"] < 1e12
        assert sample["raceproof_os_threads"] >= sample["raceproof_threads"]
    assert health.collected() == sample
    assert [value for _, value in health.history("orders")] == [7]
    assert health.history("none") == []


def test_start_collects_and_stop_ends_it():
    """start() collects at the interval on one daemon thread, a second start() changes nothing, stop() ends it."""
    health = HealthMonitor.instance()
    before = threading.active_count()
    health.start(0.02)
    health.start(0.02)
    assert threading.active_count() == before + 1
    wait_for(lambda: len(health.history("raceproof_threads")) > 5)
    health.stop()

    def is_still():
        n = len(health.history("raceproof_threads"))
        time.sleep(0.2)
        return len(health.history("raceproof_threads")) == n

    wait_for(is_still)


def test_numbers_that_are_registered_are_read_at_each_sample():
    """A registered number is read at each sample; one that raises is left out that time, and the others are not."""
    health = HealthMonitor.instance()
    values = iter([1, 2])
    health.register("jobs_done", lambda: next(values), counter=True, help="jobs that are done")
    health.register("depth", lambda: 5)
    assert health.sample()["jobs_done"] == 1
    assert "jobs_done_total 2.0" in health.openmetrics()
    sample = health.sample()
    assert "jobs_done" not in sample and sample["depth"] == 5
    with pytest.raises(ValueError, match="name of a metric"):
        health.register("jobs-done", lambda: 1)


def test_counters_are_exact_and_exported(together):
    """A counter of a name is one for all threads, loses nothing, and is exported as a counter."""
    health = HealthMonitor.instance()

    def work():
        counter = health.counter("requests", "requests that were served")
        for _ in range(5000):
            counter.add(1)

    together(work, work, work)
    assert health.sample()["requests"] == 15000
    text = health.openmetrics()
    assert "# TYPE requests counter\nrequests_total 15000.0\n" in text
    assert "# HELP requests requests that were served\n" in text


def test_openmetrics_can_be_read_by_prometheus():
    """The text is in the OpenMetrics format: each name once, labels escaped, the end marked."""
    health = HealthMonitor.instance()
    health.set_metric('odd "name"\n', 1.5)
    PerformanceFigures.instance().record("query", 0.25)
    health.sample()
    text = health.openmetrics()
    assert text.endswith("# EOF\n")
    assert 'raceproof_metric{name="odd \\"name\\"\\n"} 1.5' in text
    assert 'raceproof_duration_seconds{name="query",quantile="0.99"} 0.25' in text
    assert 'raceproof_durations_total{name="query"} 1.0' in text
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 5


def test_a_loop_that_does_not_answer_is_measured_and_raised():
    """The lag of an event loop is measured from outside; a lag above the setting is one incident for each episode."""
    health = HealthMonitor.instance()
    Configuration.instance().update(loop_lag_s=0.2)

    async def use():
        health.start(0.02)
        await asyncio.sleep(0.2)
        time.sleep(0.6)
        await asyncio.sleep(0.2)

    run(use())
    lags = [value for _, value in health.history("raceproof_loop_lag_seconds")]
    assert max(lags) > 0.2 > min(lags)
    (incident,) = incidents("event-loop-lag")
    # A busy machine may make an episode of its own.
    was_late = [False] + [lag > 0.2 for lag in lags]
    assert incident.count == sum(late and not before for before, late in itertools.pairwise(was_late))
    # The loop is closed now, and is forgotten.
    wait_for(lambda: "raceproof_loop_lag_seconds" not in health.sample())


def test_an_exception_that_ends_a_thread_is_an_incident(capsys):
    """An exception that ends a thread is raised as an incident, after the hook that was there before."""
    seen = []
    threading.excepthook = lambda args: seen.append(args.exc_type)
    HealthMonitor.instance().start(10)

    def fail():
        raise LookupError("no such order")

    def leave():
        raise SystemExit

    for target in (fail, fail, leave):
        thread = threading.Thread(target=target, name="worker")
        thread.start()
        thread.join()
    (incident,) = incidents("lost-exception")
    assert (incident.count, incident.severity) == (2, "error")
    assert incident.title == "thread `worker` lost LookupError: no such order"
    assert "in fail" in incident.context["traceback"]
    assert seen == [LookupError, LookupError, SystemExit]
    HealthMonitor.instance().stop()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert incidents("lost-exception") == [incident]


def test_an_exception_that_python_cannot_raise_is_an_incident():
    """An exception of `__del__`, of a callback, or of a call of a pool that nobody asked for, is an incident."""
    seen = []
    sys.unraisablehook = lambda args: seen.append(args.exc_type)
    HealthMonitor.instance().start(10)

    class Odd:
        def __del__(self):
            raise LookupError("no such order")

    Odd()
    gc.collect()
    (incident,) = wait_for(lambda: incidents("lost-exception"))
    assert "lost LookupError: no such order" in incident.title
    assert seen == [LookupError]
    HealthMonitor.instance().stop()
    Odd()
    gc.collect()
    assert incidents("lost-exception") == [incident]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_of_ours_is_watched():
    """A pool that is watched is sampled and not kept alive; an exception that it lost is an incident."""
    health = HealthMonitor.instance()
    health.start(10)
    release = threading.Event()
    pool = raceproof.Pool(1, max_queue=2, name="io")
    health.watch_pool(pool)
    waiting = [pool.submit(release.wait, 30) for _ in range(3)]
    wait_for(lambda: health.sample()["raceproof_pool_queue"] == 2)
    release.set()
    lost = pool.submit(lambda: 1 / 0)
    pool.shutdown()
    del lost, waiting, pool
    gc.collect()
    (incident,) = wait_for(lambda: incidents("lost-exception"))
    assert "ZeroDivisionError" in incident.title
    assert "raceproof_pool_queue" not in health.sample()


def test_locks_of_ours_tell_of_themselves():
    """Waits and holds of all locks are sampled; an inversion and a long hold are incidents; stop() switches off."""
    Configuration.instance().update(long_hold_s=0.05)
    health = HealthMonitor.instance()
    health.start(10)
    first, second = raceproof.Lock("first"), raceproof.Lock("second")
    health.watch_lock(first)
    with first, second:
        time.sleep(0.1)
        health.sample()
    with pytest.warns(RuntimeWarning), second, first:
        pass
    sample = health.sample()
    assert sample["raceproof_lock_hold_p99_seconds"] >= 0.09
    (inversion,) = incidents("lock-order-inversion")
    assert inversion.title == "locks `first` and `second` are taken in both orders"
    assert len(inversion.context["stacks"]) == 2
    titles = {incident.title.split(" is held")[0] for incident in incidents("long-hold")}
    assert titles == {"lock `first`", "lock `second`"}
    assert raceproof.lock_report()["timing"]
    health.stop()
    assert not raceproof.lock_report()["timing"]


def test_an_exception_that_no_task_awaits_is_an_incident():
    """An exception of a task that nobody awaits is raised as an incident, without holding the loop up."""

    async def fail():
        raise LookupError("no such order")

    async def use():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        HealthMonitor.instance().start(10)
        task = asyncio.ensure_future(fail())
        task.set_name("orders")
        await asyncio.sleep(0.01)
        del task
        gc.collect()
        await asyncio.sleep(0.01)

    run(use())
    (incident,) = wait_for(lambda: incidents("lost-exception"))
    assert incident.title == "task `orders` lost LookupError: no such order"


def test_a_lock_that_is_held_for_long_is_an_incident():
    """A hold above the setting is one incident for each episode, and waits and holds of locks are sampled."""
    health = HealthMonitor.instance()
    lock = {"name": "db", "holder": "worker-1", "waiters": 2, "wait_p50_s": 0.1, "wait_p99_s": 0.2, "held_s": 0.0}
    health.add_source(Source("lock", lambda: [lock]))
    for held in (0.5, 5.0, 6.0, 0.0, 7.0):
        lock["held_s"] = held
        sample = health.sample()
    (incident,) = incidents("long-hold")
    assert (incident.count, incident.title) == (2, "lock `db` is held for 7 s by worker-1")
    assert sample["raceproof_lock_wait_p99_seconds"] == 0.2
    assert sample["raceproof_lock_waiters"] == 2
    assert "raceproof_lock_hold_p99_seconds" not in sample


def test_a_pool_without_room_is_an_incident():
    """A queue that is full for longer than the setting is one incident for each episode."""
    Configuration.instance().update(pool_saturated_s=0.05)
    health = HealthMonitor.instance()
    pool = {"name": "io", "queued": 8, "limit": 8, "workers": 2, "active": 2}
    health.add_source(Source("pool", lambda: [pool]))
    for queued, n_expected in ((8, 0), (8, 1), (8, 1), (3, 1), (8, 1), (8, 2)):
        pool["queued"] = queued
        health.sample()
        found = incidents("pool-saturation")
        assert sum(incident.count for incident in found) == n_expected
        time.sleep(0.06)
    assert health.collected()["raceproof_pool_queue"] == 8


def test_a_source_that_raises_does_not_stop_the_others(capsys):
    """A source that raises is said on stderr, and the others are read."""
    health = HealthMonitor.instance()
    health.add_source(Source("lock", lambda: 1 / 0))
    health.add_source(Source("lock", lambda: [{"name": "db", "waiters": 1}]))
    assert health.sample()["raceproof_lock_waiters"] == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_growth_without_end_is_suspected(monkeypatch):
    """Objects whose floor rises for a whole window are an incident, once in a window; a level number is none."""
    monkeypatch.setattr(health_module, "COUNTING_SHARE", 1.0)
    Configuration.instance().update(
        leak_window_s=0.4, leak_objects=1000, leak_share=0.0, objects_interval_s=0.02, leak_rss_bytes=1e15
    )
    health = HealthMonitor.instance()
    kept = []

    def grows():
        kept.append([[] for _ in range(2000)])
        health.sample()
        return incidents("leak-suspicion")

    (incident,) = wait_for(grows)
    assert incident.context["metric"] == "raceproof_objects"
    assert incident.context["to"] - incident.context["from"] >= 1000
    Configuration.instance().update(leak_window_s=86400)
    health.sample()
    assert len(incidents("leak-suspicion")) == 1


def test_a_lock_order_inversion_can_be_reported():
    """An inversion is one incident, whichever lock was first."""
    monitor.report_lock_inversion("a", "b", {"stack": "..."})
    monitor.report_lock_inversion("b", "a", {"stack": "..."}, wait=False)
    found = wait_for(lambda: [incident for incident in incidents("lock-order-inversion") if incident.count == 2])
    assert found[0].title == "locks `a` and `b` are taken in both orders"


def test_reports_never_raise(tmp_path, capsys):
    """A report whose incident cannot be kept is said on stderr and does not raise."""
    (tmp_path / "file").write_text("")
    monitor.use_store(tmp_path / "file" / "below.db")
    monitor.report_long_hold("db", 3.0, "worker-1")
    assert "lock `db` is held for 3 s" in capsys.readouterr().err


def test_a_job_that_raises_is_an_incident_and_goes_on():
    """A job of the collector that raises is an incident, is called again, and the others are called too."""
    collector = BackgroundCollector.instance()
    good, bad = [], []

    def fail():
        bad.append(1)
        raise LookupError("gone")

    collector.add("bad", fail, 0.01)
    collector.add("good", lambda: good.append(1), lambda: 0.01)
    collector.start()
    wait_for(lambda: len(good) > 5 and len(bad) > 5)
    assert collector.remove("bad") and not collector.remove("bad")
    (incident,) = incidents("collector-failure")
    assert incident.count > 3
    collector.stop()
    assert not collector.running


def test_stopping_the_collector_has_a_deadline():
    """stop() raises WaitTimeout if a job still runs after the timeout; the thread ends after the job."""
    collector = BackgroundCollector.instance()
    entered, release = threading.Event(), threading.Event()

    def slow():
        entered.set()
        release.wait(30)

    collector.add("slow", slow, 10)
    collector.start()
    assert entered.wait(20)
    with pytest.raises(WaitTimeout):
        collector.stop(0.05)
    release.set()
    collector.stop()


def test_figures_count_everything(together):
    """Durations added by many threads are all counted; quantiles are exact to one part in 16."""
    figures = PerformanceFigures.instance()

    def add():
        for n in range(1, 1001):
            figures.record("query", n / 1000)

    together(add, add, add)
    summary = figures.summary("query")
    assert summary.count == 3000
    assert summary.total == pytest.approx(1501.5)
    assert summary.max == 1.0
    for found, exact in ((summary.p50, 0.5), (summary.p90, 0.9), (summary.p99, 0.99)):
        assert exact <= found <= exact * 17 / 16
    assert figures.summary("none") is None
    figures.clear()
    assert figures.summaries() == {}


def test_measure_measures_also_what_raises():
    """measure() works as a context, and on functions and coroutine functions; also if they raise."""
    figures = PerformanceFigures.instance()
    with figures.measure("body"):
        time.sleep(0.02)
    assert 0.02 <= figures.summary("body").max < 5

    @figures.measure("function")
    def double(value):
        """Doubles."""
        return 2 * value

    @figures.measure("coroutine")
    async def fail():
        await asyncio.sleep(0.01)
        raise LookupError

    assert (double(2), double.__doc__) == (4, "Doubles.")
    for _ in range(2):
        with pytest.raises(LookupError):
            run(fail())
    assert figures.summary("function").count == 1
    assert figures.summary("coroutine").count == 2


def test_every_subscriber_gets_every_event_in_order(together):
    """Each subscriber gets each event once, in the order of the numbers, from threads and coroutines."""
    stream = EventStream.instance()
    threaded, tasked = stream.subscribe(), stream.subscribe("number")
    n = 400

    def publish():
        for value in range(n):
            stream.publish("number", value)

    def read():
        return [threaded.get(30).seq for _ in range(2 * n)]

    async def read_too():
        return [(await tasked.__anext__()).seq for _ in range(2 * n)]

    _, _, first, second = together(publish, publish, read, lambda: run(read_too()))
    assert first == second == list(range(1, 2 * n + 1))
    assert (threaded.lost, tasked.lost) == (0, 0)


def test_a_slow_subscriber_misses_the_oldest_and_is_told():
    """A publisher never waits; a subscriber that is too far behind misses the oldest and is told how many."""
    stream = EventStream(3)
    subscriber = stream.subscribe()
    for n in range(5):
        stream.publish("number", n)
    assert [subscriber.get(0).payload for _ in range(3)] == [2, 3, 4]
    assert subscriber.lost == 2
    assert subscriber.get(0.01) is None


def test_an_event_is_a_copy():
    """An event is a copy of what was published: later changes are not seen."""
    stream = EventStream(10)
    value = {"names": ["a"]}
    stream.publish("change", value)
    value["names"].append("b")
    assert stream.subscribe(replay=1).get(0).payload == {"names": ["a"]}


def test_topics_replay_and_the_end_of_a_stream():
    """A subscriber may choose topics and ask for the latest events; a closed stream is read to its end."""
    stream = EventStream(10)
    for topic in ("a", "b", "a"):
        stream.publish(topic)
    subscriber = stream.subscribe("a", replay=10)
    stream.close()
    assert stream.publish("a") is None
    assert [event.seq for event in subscriber] == [1, 3]

    async def rest():
        return [event.seq async for event in stream.subscribe(replay=2)]

    assert run(rest()) == [2, 3]


def test_changes_of_incidents_are_events():
    """Incidents that are raised, acknowledged, resolved or removed are events of the stream."""
    subscriber = EventStream.instance().subscribe()

    async def use():
        manager = IncidentManager.instance()
        incident = await manager.raise_incident("slow")
        await manager.acknowledge(incident.id, "ann")
        await manager.resolve(incident.id)
        await manager.remove_incident(incident.id)

    run(use())
    topics = [subscriber.get(5).topic for _ in range(4)]
    assert topics == ["incident.raised", "incident.acknowledged", "incident.resolved", "incident.removed"]


def test_settings_change_all_at_once_or_not_at_all(together, monkeypatch):
    """A change of settings comes whole or not at all, watchers are told, and readers see one whole version."""
    monkeypatch.setenv("RACEPROOF_LONG_HOLD_S", "2.5")
    settings = Configuration.instance()
    assert settings.get("long_hold_s") == 2.5
    told = []
    end = settings.watch(lambda values: told.append(values["leak_share"]))
    with pytest.raises(ValueError, match="leak_share"):
        settings.update(interval_s=2, leak_share=-1)
    with pytest.raises(ValueError, match="no setting"):
        settings.update(colour=1)
    with pytest.raises(KeyError):
        settings.get("colour")
    assert (settings.version, told) == (1, [])
    settings.update(leak_share=0.5)
    end()
    settings.update(leak_share=0.6)
    assert told == [0.5]

    def write():
        for n in range(1, 1000):
            settings.update(leak_objects=n, leak_rss_bytes=n)

    def read():
        write_began = False
        for _ in range(2000):
            values = settings.snapshot()
            same = values["leak_objects"] == values["leak_rss_bytes"]
            assert same or not write_began
            write_began = write_began or same

    together(write, read)
    assert set(Configuration.describe()) == set(settings.snapshot())


def test_a_variable_that_is_no_number_is_an_error(monkeypatch):
    """A variable of the environment that is no number is a ValueError at the first use."""
    monkeypatch.setenv("RACEPROOF_INTERVAL_S", "soon")
    with pytest.raises(ValueError, match="RACEPROOF_INTERVAL_S"):
        Configuration.instance()


def test_counting_objects_disturbs_nobody(together):
    """A tuple that a thread is making has one reference; who takes another makes `tuple(...)` fail."""
    over = threading.Event()

    # By counts, not by tuples: a count stops all threads for as long as a walk through all objects of the process takes.
    def count():
        try:
            for _ in range(30):
                assert _native.monitor_objects() > 1000
        finally:
            over.set()

    def make():
        while not over.is_set():
            assert len(tuple(n for n in range(200))) == 200

    together(count, make)
