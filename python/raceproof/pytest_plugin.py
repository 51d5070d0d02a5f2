"""The plugin for pytest: ordinary tests that start threads, run under control.

`@pytest.mark.raceproof` explores one test, `pytest --raceproof` all that start threads. The test function is the
scenario: it is called again and again, with its fixtures made anew, and every thread that it starts is controlled. The
fixtures `explore` and `stress` are the functions of `raceproof.testing` that fail the test themselves.

This module is loaded by every pytest of an environment with raceproof, so it imports the rest only when it is needed.
"""

import functools
import inspect
import os
import shlex
import shutil
import sys
import threading
from collections import Counter

import pytest

_RUNS = 2_000
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_EMPTIED = ("tmp_path", "tmpdir")
_OPTIONS = ("strategy", "max_runs", "bound", "seed", "runtime", "max_steps")


def pytest_addoption(parser):
    """The options."""
    group = parser.getgroup("raceproof", "thread safety")
    group.addoption(
        "--raceproof",
        action="store_true",
        help="run tests that start threads under control as well: each is called up to --raceproof-max-runs times",
    )
    group.addoption("--raceproof-max-runs", type=int, default=None, metavar="N", help=f"runs of one test ({_RUNS})")
    group.addoption("--raceproof-strategy", default=None, metavar="NAME", help="how schedules are chosen (auto)")
    group.addoption("--raceproof-seed", type=int, default=None, metavar="N", help="where chance begins (0)")
    group.addoption(
        "--raceproof-replay", default=None, metavar="SCHEDULE", help="run the chosen test once, by this schedule"
    )


def pytest_configure(config):
    """The marker."""
    config.addinivalue_line(
        "markers",
        "raceproof(strategy, max_runs, bound, seed, runtime, max_steps): explore the schedules of the threads that "
        "this test starts",
    )


def _options(item):
    """What the marker says, then the command line."""
    options = {"max_runs": _RUNS}
    marker = item.get_closest_marker("raceproof")
    if marker is not None:
        unknown = [name for name in marker.kwargs if name not in _OPTIONS]
        if marker.args or unknown:
            raise pytest.UsageError(f"the marker raceproof takes {', '.join(_OPTIONS)} by name")
        options |= marker.kwargs
    for name in ("max_runs", "strategy", "seed"):
        said = item.config.getoption(f"raceproof_{name}")
        if said is not None:
            options[name] = said
    return options


@pytest.fixture
def explore(request):
    """`raceproof.testing.explore`, which fails the test unless the scenario holds; options of the marker `raceproof`
    are its defaults."""
    from raceproof import testing

    options = _options(request.node)
    schedule = request.config.getoption("raceproof_replay")

    def explored(setup, threads, invariant=None, **more):
        __tracebackhide__ = True
        if schedule is not None:
            more = {name: value for name, value in more.items() if name in ("spec", "runtime")}
            outcome = testing.replay(setup, threads, invariant, schedule=schedule, **more)
        else:
            outcome = testing.explore(setup, threads, invariant, **{**options, **more})
        _tell(request.node, outcome)
        _judge(request.node, outcome, is_vacuous_allowed=False)
        return outcome

    return explored


@pytest.fixture
def stress(request):
    """`raceproof.testing.stress`, which fails the test unless nothing is found."""
    from raceproof import testing

    def stressed(setup, threads, invariant=None, **more):
        __tracebackhide__ = True
        outcome = testing.stress(setup, threads, invariant, **more)
        outcome.assert_holds()
        return outcome

    return stressed


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Explores the test instead of calling it, or after that."""
    item = pyfuncitem
    is_marked = item.get_closest_marker("raceproof") is not None
    is_asked = item.config.getoption("raceproof") or item.config.getoption("raceproof_replay") is not None
    if not (is_marked or is_asked) or not _is_plain(item):
        return None
    from raceproof.testing._reach import Reach

    reach = Reach(item.obj)
    if not is_marked and item.config.getoption("raceproof_replay") is None:
        if not _starts_threads(item):
            return True
        _finish_fixtures(item)
        reach.restore()
        _make_fixtures(item)
    _explore(item, reach, is_marked)
    return True


def _is_plain(item):
    """Can it be called again and again, and does it not explore by itself?"""
    function = item.obj
    is_special = inspect.iscoroutinefunction(function) or hasattr(function, "hypothesis")
    return not is_special and not {"explore", "stress"} & set(item.fixturenames)


def _arguments(item):
    return {name: item.funcargs[name] for name in item._fixtureinfo.argnames}


def _starts_threads(item):
    """Calls the test once, as it is: did it start threads of its own?"""
    started = []
    real = threading.Thread.start

    @functools.wraps(real)
    def start(thread):
        if not sys._getframe(1).f_code.co_filename.startswith(_OURS):
            started.append(thread)
        return real(thread)

    threading.Thread.start = start
    try:
        item.obj(**_arguments(item))
    finally:
        threading.Thread.start = real
    return bool(started)


def _explore(item, reach, is_marked):
    from raceproof import testing

    is_first = True
    passed_over = []

    def setup():
        nonlocal is_first
        if not is_first:
            _finish_fixtures(item)
            reach.restore()
            _make_fixtures(item)
        is_first = False
        return item.obj, _arguments(item)

    def test(made):
        function, arguments = made
        try:
            function(**arguments)
        except (pytest.skip.Exception, pytest.xfail.Exception) as error:
            passed_over.append(error)

    schedule = item.config.getoption("raceproof_replay")
    try:
        if schedule is not None:
            outcome = testing.replay(setup, [test], schedule=schedule)
        else:
            outcome = testing.explore(setup, [test], **_options(item))
    finally:
        _finish_fixtures(item)
        reach.restore()
        _make_fixtures(item)
    if passed_over:
        raise passed_over[0]
    _tell(item, outcome)
    _judge(item, outcome, is_vacuous_allowed=not is_marked)


def _tell(item, outcome):
    """Notes what came of it, for the summary and for other reports."""
    item.user_properties.append(("raceproof", outcome.verdict))
    if outcome.schedule is not None:
        item.user_properties.append(("raceproof_schedule", outcome.schedule))


def _judge(item, outcome, is_vacuous_allowed):
    __tracebackhide__ = True
    if outcome.verdict == "failed":
        words = shlex.join(["pytest", item.nodeid, "--raceproof-replay", outcome.schedule or ""])
        pytest.fail(f"{outcome.explanation}\nto see it again: {words}", pytrace=False)
    if outcome.verdict == "gave_up":
        if not is_vacuous_allowed:
            pytest.fail(f"raceproof gave up: {outcome.reason}", pytrace=False)
        item.warn(pytest.PytestWarning(f"raceproof gave up: {outcome.reason}"))


# --- fixtures anew, which pytest has no public function for


def _finish_fixtures(item):
    """Ends what was made for this test alone."""
    request = item._request
    for definition in reversed(list(request._fixture_defs.values())):
        if definition.argname in _EMPTIED:
            _empty(item.funcargs.get(definition.argname))
        elif definition.scope == "function":
            definition.finish(request)
    finalizers = item.session._setupstate.stack[item][0]
    # Each making registers an end, which has just come: thousands of runs would keep them all.
    finalizers[:] = [it for it in finalizers if not _is_of_fixture(it)]


def _empty(folder):
    """Empties a folder, rather than make a new one for each of thousands of runs."""
    for path in [] if folder is None else os.scandir(folder):
        shutil.rmtree(path) if path.is_dir(follow_symlinks=False) else os.unlink(path)


def _is_of_fixture(finalizer):
    owner = getattr(getattr(finalizer, "func", finalizer), "__self__", None)
    return hasattr(owner, "cached_result") and owner.scope == "function" and owner.argname not in _EMPTIED


def _make_fixtures(item):
    item._obj = None
    if "_instance" in vars(item):
        del item._instance
    item.funcargs.clear()
    item._initrequest()
    item._request._fillfixtures()


def pytest_terminal_summary(terminalreporter):
    """How many tests were explored, and what came of them."""
    verdicts = Counter(
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "raceproof"
    )
    if verdicts:
        words = {"nothing_found": "nothing found in", "gave_up": "gave up on", "failed": "failed", "proved": "proved"}
        told = ", ".join(f"{words[verdict]} {n}" for verdict, n in sorted(verdicts.items()))
        terminalreporter.write_line(f"raceproof explored {sum(verdicts.values())}: {told}")
