"""The plugin for pytest, on test files of its own."""

import pytest

pytest_plugins = ["pytester"]

BANK = """
import threading
import pytest

total = 0

class Bank:
    def __init__(self):
        self.total = 0
        self.lock = threading.Lock()

    def add(self):
        self.total += 1

    def add_locked(self):
        with self.lock:
            self.total += 1

def twice(function):
    threads = [threading.Thread(target=function) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

@pytest.fixture
def bank():
    made = Bank()
    yield made
    made.total = "over"
"""


@pytest.fixture
def run(pytester):
    """`run(tests, *words)`: pytest on a file in a process of its own."""

    def run(tests, *words):
        pytester.makepyfile(test_bank=BANK + tests)
        # The plugin itself comes by its entry point.
        arguments = ["-q", *words]
        return pytester.runpytest_subprocess(*arguments)

    return run


RACY = """
def test_racy(bank):
    twice(bank.add)
    assert bank.total == 2
"""
LOCKED = """
def test_locked(bank):
    twice(bank.add_locked)
    assert bank.total == 2
"""


def test_without_the_option_nothing_is_explored(run):
    result = run(RACY + LOCKED)
    assert "raceproof explored" not in result.stdout.str()


def test_ordinary_tests_are_run_under_control(run):
    result = run(RACY + LOCKED, "--raceproof")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*lost update*", "*reads `self.total` = 0*", "*--raceproof-replay*"])
    result.stdout.fnmatch_lines(["raceproof explored 2: failed 1, proved 1"])


def test_a_schedule_replays(run):
    result = run(RACY, "--raceproof")
    line = next(line for line in result.outlines if "to see it again" in line)
    schedule = line.split("--raceproof-replay ")[1].strip("'")
    again = run(RACY, "--raceproof-replay", schedule)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*lost update*"])
    # The repaired program no longer fails under it.
    run(RACY.replace("bank.add)", "bank.add_locked)"), "--raceproof-replay", schedule).assert_outcomes(passed=1)


def test_the_marker_explores_one_test(run):
    result = run("@pytest.mark.raceproof(max_runs=300)" + RACY + LOCKED)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["raceproof explored 1: failed 1"])


def test_a_wrong_word_in_the_marker_is_said(run):
    result = run("@pytest.mark.raceproof(runs=300)" + RACY)
    assert result.ret != 0
    assert "the marker raceproof takes" in result.stdout.str() + result.stderr.str()


def test_fixtures_and_globals_begin_anew(run):
    result = run(
        """
class TestBank:
    def setup_method(self):
        self.bank = Bank()

    def test_locked(self, bank, tmp_path, monkeypatch, capsys):
        global total
        (tmp_path / "folder").mkdir()
        monkeypatch.setenv("BANK", "1")
        print("once")
        twice(bank.add_locked)
        twice(self.bank.add_locked)
        total += bank.total + self.bank.total
        assert total == 4
        assert capsys.readouterr().out == "once\\n"
""",
        "--raceproof",
        "--raceproof-max-runs=50",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["raceproof explored 1: proved 1"])


def test_what_a_thread_raises_fails_the_test(run):
    result = run(
        """
def test_raises():
    seen = {}

    def fill():
        seen["x"] = 1

    def use():
        if "x" in seen:
            raise KeyError("used")

    threads = [threading.Thread(target=it) for it in (use, fill)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""",
        "--raceproof",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*raises KeyError*used*"])


def test_a_deadlock_is_told_and_does_not_hang(run):
    result = run(
        """
@pytest.mark.raceproof
def test_deadlock():
    a, b = threading.Lock(), threading.Lock()

    def one():
        with a, b:
            pass

    def other():
        with b, a:
            pass

    threads = [threading.Thread(target=it) for it in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*threads wait for each other*"])


def test_tests_without_threads_and_skips_stay_what_they_are(run):
    result = run(
        """
def test_plain(bank):
    assert bank.total == 0

def test_fails():
    assert False

def test_skips(bank):
    twice(bank.add_locked)
    pytest.skip("not today")
""",
        "--raceproof",
    )
    result.assert_outcomes(passed=1, failed=1, skipped=1)


def test_a_marked_test_that_shows_nothing_does_not_pass(run):
    result = run(
        """
@pytest.mark.raceproof
def test_nothing():
    twice(lambda: None)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*raceproof gave up: no run had two threads*"])


def test_the_fixtures(run):
    result = run(
        """
def test_explored(explore):
    assert explore(Bank, [Bank.add_locked, Bank.add_locked], lambda bank: bank.total == 2).verdict == "proved"

def test_explored_racy(explore):
    explore(Bank, [Bank.add, Bank.add], lambda bank: bank.total == 2)

def test_stressed(stress):
    stress(Bank, [Bank.add_locked, Bank.add_locked], lambda bank: bank.total == 2, runs=20)

def test_stressed_racy(stress):
    stress(Bank, [Bank.add, Bank.add], lambda bank: bank.total == 2)
""",
        "--raceproof",
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*raceproof explored 2: failed 1, proved 1"])
