"""The race detector, on programs with real threads: what it must find, and on what it must be silent."""

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 13) or sys.implementation.name != "cpython",
    reason="the detector reads the frames of CPython 3.13",
)

_THREADS = """
import threading
def go(*functions, args=()):
    threads = [threading.Thread(target=function, args=args, name=f"T{n}") for n, function in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def run(tmp_path, program, *, confidence="medium", raises=False):
    """Exit code and findings of a program under the detector."""
    script, out = tmp_path / "program.py", tmp_path / "out.json"
    script.write_text(_THREADS + textwrap.dedent(program))
    words = ["run", "--format=json", f"--output={out}", f"--confidence={confidence}", str(script)]
    done = subprocess.run(
        [sys.executable, "-m", "raceproof", *words], capture_output=True, text=True, timeout=100, check=False
    )
    assert ("Traceback" in done.stderr) == raises, done.stderr
    return done.returncode, json.loads(out.read_text())["findings"]


def rules(tmp_path, program, confidence="medium"):
    """The rules of the findings, in the order in which they are told."""
    return [finding["rule"] for finding in run(tmp_path, program, confidence=confidence)[1]]


BUGGY = {
    "lost update": (
        """
        class S:
            n = 0
        def inc(s):
            v = s.n
            s.n = v + 1
        go(inc, inc, args=(S(),))
        """,
        ["unlocked-increment"],
    ),
    "lost update of a global": (
        """
        n = 0
        def inc():
            global n
            n += 1
        go(inc, inc)
        """,
        ["unlocked-increment"],
    ),
    "lost update of a closure": (
        """
        def outer():
            n = 0
            def inc():
                nonlocal n
                n += 1
            go(inc, inc)
        outer()
        """,
        ["unlocked-increment"],
    ),
    "lost update of an item": (
        """
        def inc(counts):
            counts["a"] += 1
        go(inc, inc, args=({"a": 0},))
        """,
        ["unlocked-increment"],
    ),
    "lost update of a slot": (
        """
        class S:
            __slots__ = ("n",)
        def inc(s):
            s.n += 1
        s = S()
        s.n = 0
        go(inc, inc, args=(s,))
        """,
        ["unlocked-increment"],
    ),
    "singleton": (
        """
        class S:
            instance = None
        def get():
            if S.instance is None:
                S.instance = object()
            return S.instance
        go(get, get)
        """,
        ["check-then-act"],
    ),
    "check of a dict, then act": (
        """
        def look(cache):
            if "k" not in cache:
                cache["k"] = object()
        go(look, look, args=({},))
        """,
        ["check-then-act"],
    ),
    "a lock that is free in between": (
        """
        lock = threading.Lock()
        class S:
            n = 0
        def inc(s):
            with lock:
                v = s.n
            with lock:
                s.n = v + 1
        go(inc, inc, args=(S(),))
        """,
        ["split-critical-section"],
    ),
    "torn pair": (
        """
        class S:
            lo = hi = 0
        def write(s):
            s.lo = 1
            s.hi = 1
        def read(s):
            return s.lo, s.hi
        go(write, read, args=(S(),))
        """,
        ["torn-read"],
    ),
    "two writers": (
        """
        class S:
            last = ""
        def one(s):
            s.last = "one"
        def two(s):
            s.last = "two"
        go(one, two, args=(S(),))
        """,
        ["unordered-writes"],
    ),
    "locks in both orders": (
        """
        a, b = threading.Lock(), threading.Lock()
        def ab():
            with a:
                with b:
                    pass
        def ba():
            with b:
                with a:
                    pass
        one = threading.Event()
        go(ab, lambda: one.wait(0.2) or ba())
        """,
        ["lock-order-inversion"],
    ),
    "a lock that was made before": (
        """
        class S:
            n = 0
        import queue
        real = type(queue.Queue().mutex)
        lock = threading.Lock()
        def good(s):
            with lock:
                s.n += 1
        def bad(s):
            s.n += 1
        go(good, bad, args=(S(),))
        """,
        ["unlocked-increment"],
    ),
}

CORRECT = {
    "lock": """
        class S:
            n = 0
        lock = threading.Lock()
        def inc(s):
            with lock:
                s.n += 1
        go(inc, inc, args=(S(),))
        """,
    "reentrant lock": """
        class S:
            n = 0
        lock = threading.RLock()
        def inc(s):
            with lock, lock:
                s.n += 1
        go(inc, inc, args=(S(),))
        """,
    "start and join": """
        class S:
            n = 0
        s = S()
        def inc():
            s.n += 1
        go(inc)
        go(inc)
        s.n += 1
        """,
    "event": """
        class S:
            n = 0
        s, ready = S(), threading.Event()
        def one():
            s.n += 1
            ready.set()
        def two():
            ready.wait()
            s.n += 1
        go(one, two)
        """,
    "event that is polled": """
        import time
        class S:
            n = 0
        s, ready = S(), threading.Event()
        def one():
            s.n += 1
            ready.set()
        def two():
            while not ready.is_set():
                time.sleep(0.001)
            s.n += 1
        go(one, two)
        """,
    "condition": """
        class S:
            n, is_ready = 0, False
        s, condition = S(), threading.Condition()
        def one():
            s.n += 1
            with condition:
                s.is_ready = True
                condition.notify()
        def two():
            with condition:
                while not s.is_ready:
                    condition.wait()
            s.n += 1
        go(one, two)
        """,
    "semaphore": """
        class S:
            n = 0
        s, gate = S(), threading.Semaphore(1)
        def inc():
            with gate:
                s.n += 1
        go(inc, inc)
        """,
    "barrier": """
        class S:
            n = 0
        s, barrier = S(), threading.Barrier(2)
        def one():
            s.n += 1
            barrier.wait()
        def two():
            barrier.wait()
            s.n += 1
        go(one, two)
        """,
    "queues": """
        import queue
        class S:
            n = 0
        for kind in (queue.Queue, queue.SimpleQueue):
            q = kind()
            def one():
                s = S()
                s.n += 1
                q.put(s)
            def two():
                q.get().n += 1
            go(one, two)
        """,
    "futures": """
        from concurrent.futures import ThreadPoolExecutor
        class S:
            n = 0
        def inc(s):
            s.n += 1
            return s
        with ThreadPoolExecutor(2) as pool:
            for _ in range(20):
                s = pool.submit(inc, pool.submit(inc, S()).result()).result()
                s.n += 1
        """,
    "an event loop of another thread": """
        import asyncio
        class S:
            n = 0
        s, loop = S(), asyncio.new_event_loop()
        def serve():
            loop.run_forever()
        def inc():
            s.n += 1
        async def later():
            s.n += 1
        thread = threading.Thread(target=serve)
        thread.start()
        s.n += 1
        loop.call_soon_threadsafe(inc)
        asyncio.run_coroutine_threadsafe(later(), loop).result()
        s.n += 1
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        """,
    "one step each": """
        import itertools
        d, log, ids, got = {}, [], itertools.count(), [None, None]
        def make(i):
            def run():
                got[i] = d.setdefault("k", i)
                log.append(next(ids))
            return run
        go(make(0), make(1))
        """,
    "locks in one order": """
        a, b = threading.Lock(), threading.Lock()
        def ab():
            with a, b:
                pass
        go(ab, ab)
        """,
    "locks in both orders, one after the other": """
        a, b = threading.Lock(), threading.Lock()
        def ab():
            with a, b:
                pass
        def ba():
            with b, a:
                pass
        go(ab)
        go(ba)
        """,
    "property with a lock": """
        class S:
            def __init__(self):
                self._lock, self._n = threading.Lock(), 0
            @property
            def n(self):
                with self._lock:
                    return self._n
            @n.setter
            def n(self, value):
                with self._lock:
                    self._n = value
        s = S()
        def one():
            s.n = 1
        def two():
            s.n = 2
        go(one, two)
        """,
    "thread-local": """
        local = threading.local()
        class Own(threading.local):
            n = 0
        own = Own()
        def inc():
            local.n = 0
            local.n += 1
            own.n += 1
        go(inc, inc)
        """,
    "addresses that are used again": """
        import gc
        class S:
            def __init__(self):
                self.n = 0
        def work():
            for _ in range(3000):
                s = S()
                s.n += 1
                s.items = {}
                s.items["a"] = 1
                if "b" not in s.items:
                    s.items["b"] = s.n
        for _ in range(3):
            go(work, work, work, work)
        """,
    "handed over by a list": """
        import time
        class S:
            def __init__(self):
                self.n = 0
                self.d = {}
        box = []
        def one():
            s = S()
            s.n += 1
            s.d["a"] = 1
            box.append(s)
        def two():
            while not box:
                time.sleep(0.001)
            s = box.pop()
            s.n += 1
            s.d["a"] += 1
        go(one, two)
        """,
}


@pytest.mark.parametrize("name", BUGGY)
def test_a_race_is_found(tmp_path, name):
    program, expected = BUGGY[name]
    code, findings = run(tmp_path, program)
    assert [finding["rule"] for finding in findings] == expected
    assert code == 1


@pytest.mark.parametrize("name", CORRECT)
def test_what_is_in_order_is_not_told(tmp_path, name):
    code, findings = run(tmp_path, CORRECT[name])
    assert findings == []
    assert code == 0


def test_double_checked_locking_is_only_told_when_asked_for(tmp_path):
    program = """
        lock = threading.Lock()
        class S:
            instance = None
        def get():
            if S.instance is None:
                with lock:
                    if S.instance is None:
                        S.instance = object()
            return S.instance
        go(get, get)
        """
    assert rules(tmp_path, program) == []
    assert set(rules(tmp_path, program, confidence="low")) <= {"unordered-read"}


def test_both_sides_are_told_with_their_stacks(tmp_path):
    program = """
        class S:
            n = 0
        def inc(s):
            s.n += 1
        def one(s):
            inc(s)
        def two(s):
            inc(s)
        go(one, two, args=(S(),))
        """
    _, [finding] = run(tmp_path, program)
    sides = finding["evidence"]["paths"]
    assert sorted(side["thread"] for side in sides) == ["`T0`", "`T1`"]
    calls = sorted([call["function"] for call in side["calls"]] for side in sides)
    assert calls == [["one", "inc"], ["two", "inc"]]
    assert (finding["place"], finding["symbol"]) == ("S.n", "inc")


def test_the_worst_comes_first(tmp_path):
    program = """
        class S:
            n, last, url = 0, "", None
            lock = threading.Lock()
        def fill(s):
            if s.url is None:
                s.url = object()
        def one(s):
            s.last = "one"
            fill(s)
            s.n += 1
        def two(s):
            s.last = "two"
            fill(s)
            s.n += 1
        go(one, two, args=(S(),))
        """
    found = rules(tmp_path, program, confidence="low")
    assert found[0] == "unlocked-increment"
    assert found.index("unordered-writes") < found.index("check-then-act")
    assert found == sorted(found, key=lambda rule: rule == "unordered-read")


def test_the_program_has_its_arguments_and_its_exit_code(tmp_path):
    program = """
        import sys
        assert sys.argv[1:] == ["--flag", "x"], sys.argv
        assert __name__ == "__main__" and sys.modules["__main__"].go is go
        sys.exit(3)
        """
    script = tmp_path / "program.py"
    script.write_text(_THREADS + textwrap.dedent(program))
    words = ["run", str(script), "--flag", "x"]
    done = subprocess.run([sys.executable, "-m", "raceproof", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "no findings" in done.stderr


def test_a_program_that_is_not_there_is_an_error(tmp_path):
    words = ["run", str(tmp_path / "missing.py")]
    done = subprocess.run([sys.executable, "-m", "raceproof", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot run")


@pytest.mark.parametrize(
    ("format", "sign"), [("text", "error[unlocked-increment]"), ("sarif", "2.1.0"), ("html", "<html")]
)
def test_formats(tmp_path, format, sign):
    script = tmp_path / "program.py"
    script.write_text(_THREADS + "n = 0\ndef inc():\n    global n\n    n += 1\ngo(inc, inc)\n")
    words = ["run", f"--format={format}", str(script)]
    done = subprocess.run([sys.executable, "-m", "raceproof", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert sign in done.stderr


def test_a_lock_that_is_taken_twice_is_told_after_an_interrupt(tmp_path):
    program = """
        import os, signal, time
        lock = threading.Lock()
        def interrupt():
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        with lock:
            lock.acquire()
        """
    code, findings = run(tmp_path, program, raises=True)
    assert [finding["rule"] for finding in findings] == ["self-deadlock"]
    assert code == 1


def test_suites_are_watched(tmp_path):
    (tmp_path / "bank.py").write_text("class Bank:\n    n = 0\n    def add(self):\n        self.n += 1\n")
    test = """
        import threading
        from bank import Bank
        def test_it():
            bank = Bank()
            threads = [threading.Thread(target=bank.add) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        """
    (tmp_path / "test_bank.py").write_text(textwrap.dedent(test))
    words = ["-q", "-p", "no:cacheprovider", "test_bank.py"]
    for option, code, sign in (("-v", 0, "1 passed"), ("--raceproof-detect", 1, "unlocked-increment")):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", option, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert sign in done.stdout
        assert ("bank.py:4" in done.stdout) == (code == 1)
