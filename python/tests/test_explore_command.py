"""`raceproof explore`: a scenario of a file, in a child process."""

import json
import subprocess
import sys

import pytest

SCENARIOS = """\
import threading

count = 0


def bump():
    global count
    count += 1


def starts_threads():
    threads = [threading.Thread(target=bump) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("printed in each run")
    assert count == 2


class Racy:
    def setup():
        return [0]

    def add(items):
        items[0] = items[0] + 1

    threads = [add, add]

    def invariant(items):
        return items[0] == 2


class Locked:
    def setup(self):
        self.lock = threading.Lock()
        return [0]

    def add(self, items):
        with self.lock:
            items[0] = items[0] + 1

    def threads(self):
        return [self.add, self.add]

    def check(self, items):
        assert items[0] == 2


class Deaf:
    def setup():
        return []

    threads = [lambda items: None, lambda items: None]


class Endless:
    def setup():
        return []

    def turn(items):
        while True:
            pass

    threads = [turn]


class Hungry(Endless):
    def eat(items):
        while True:
            items.append(bytes(10_000_000))

    threads = [eat]


def takes(argument):
    pass
"""


@pytest.fixture
def explore(tmp_path):
    (tmp_path / "bank.py").write_text(SCENARIOS)
    (tmp_path / "plain.py").write_text(
        "def setup():\n    return []\n\ndef add(items):\n    items.append(1)\n\nthreads = [add, add]\n\n"
        "def check(items):\n    return len(items) == 2\n"
    )

    def explore(*words):
        command = [sys.executable, "-m", "raceproof", "explore", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)

    return explore


def test_a_scenario_that_fails_exits_with_1_and_replays(explore):
    ended = explore("bank.py::Racy")
    assert ended.returncode == 1, ended.stderr
    assert "lost update" in ended.stdout
    schedule = ended.stdout.split("--replay ")[1].strip().strip("'")
    again = explore("bank.py::Racy", "--replay", schedule)
    assert again.returncode == 1 and "lost update" in again.stdout


def test_a_scenario_that_holds_exits_with_0(explore):
    ended = explore("bank.py::Locked")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("bank.py::Locked: proved: all schedules")


def test_a_module_is_a_scenario(explore):
    ended = explore("plain.py", "--bound", "1")
    assert ended.returncode == 0
    assert "at most 1 preemptions" in ended.stdout


def test_a_function_that_starts_threads_begins_anew_in_each_run(explore):
    ended = explore("bank.py::starts_threads")
    assert ended.returncode == 1
    assert "printed" not in ended.stdout
    assert "reads `count` = 0" in ended.stdout


def test_json_has_the_finding_and_the_outcome(explore, tmp_path):
    ended = explore("bank.py::Racy", "--format", "json", "--output", "out.json")
    assert (ended.returncode, ended.stdout) == (1, "")
    page = json.loads((tmp_path / "out.json").read_text())
    assert [finding["rule"] for finding in page["findings"]] == ["observed-failure"]
    assert page["outcome"]["verdict"] == "failed"
    page = json.loads(explore("bank.py::Locked", "--format", "json").stdout)
    assert (page["findings"], page["outcome"]["verdict"]) == ([], "proved")


def test_where_nothing_is_shared_it_gives_up(explore):
    ended = explore("bank.py::Deaf")
    assert ended.returncode == 2
    assert "gave up" in ended.stdout


def test_time_and_memory_are_limited(explore):
    ended = explore("bank.py::Endless", "--time-limit", "3")
    assert ended.returncode == 2 and "after 3 s" in ended.stderr
    ended = explore("bank.py::Hungry", "--memory-limit", "200")
    assert ended.returncode == 2 and "200 MiB" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bank.py"], "it has bank.py::"),
        (["bank.py::Nobody"], "there is no `Nobody`"),
        (["bank.py::takes"], "takes arguments"),
        (["nowhere.py"], "there is no file nowhere.py"),
        (["bank.py::"], "names no scenario"),
        (["bank.py::Racy", "--strategy", "luck"], "no strategy `luck`"),
        (["bank.py::Racy", "--strategy", "pct2", "--bound", "1"], "`--bound` goes with"),
        (["bank.py::Racy", "--replay", "nonsense"], "cannot explore"),
    ],
)
def test_what_is_asked_wrongly_exits_with_2_and_is_said(explore, words, said):
    ended = explore(*words)
    assert ended.returncode == 2
    assert said in ended.stderr, ended.stderr


def test_a_file_that_cannot_be_imported_is_told_with_its_traceback(explore, tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_like_this\n")
    ended = explore("broken.py::X")
    assert ended.returncode == 2
    assert "nothing_like_this" in ended.stderr and "broken.py" in ended.stderr


def test_a_file_of_a_package_is_imported_as_its_module(explore, tmp_path):
    package = tmp_path / "bank"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("def add(items):\n    items.append(1)\n")
    (package / "scenario.py").write_text(
        "from .parts import add\n\ndef setup():\n    return []\n\nthreads = [add, add]\n"
    )
    ended = explore("bank/scenario.py")
    assert ended.returncode == 0, ended.stderr


def test_the_help_says_that_code_is_executed(explore):
    assert "executes the code" in explore("--help").stdout
