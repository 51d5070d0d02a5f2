"""From a finding to a schedule that fails, to a test that replays it, to the fix, and to the proof: on the command line."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

if sys.version_info[:2] != (3, 13):
    pytest.skip("exploration needs CPython 3.13", allow_module_level=True)

LAZY = """
    import threading

    _monitor = None


    class Monitor:
        def __init__(self):
            self.samples = []


    def get_monitor():
        global _monitor
        if _monitor is None:
            _monitor = Monitor()
        return _monitor


    def work():
        get_monitor().samples.append(1)


    for _ in range(0):
        threading.Thread(target=work).start()
    threading.Thread(target=work)
"""

# The switches that are loaded are those that a new object has: there is nothing to see halfway.
HARMLESS = """
    import threading
    from concurrent.futures import ThreadPoolExecutor

    _lock = threading.Lock()
    _flags = None


    class Flags:
        def __init__(self):
            self.names = ()

        def load(self):
            self.names = ()


    def flags():
        global _flags
        if _flags is None:
            with _lock:
                if _flags is None:
                    _flags = Flags()
                    _flags.load()
        return _flags


    def serve():
        with ThreadPoolExecutor() as pool:
            pool.submit(flags)
            pool.submit(flags)
"""

# Behind the window between two locks there is a second defect that the fix of the first does not touch.
TWO_DEFECTS = """
    import threading
    from concurrent.futures import ThreadPoolExecutor


    class Trial:
        def __init__(self, name):
            self.name = name
            self.n_asked = 0

        def ask(self):
            self.n_asked += 1
            return self.name


    class Trials:
        def __init__(self):
            self._trials = {}
            self._lock = threading.Lock()

        def trial(self, name: str) -> str:
            with self._lock:
                known = self._trials.get(name)
            if known is None:
                known = Trial(name)
                with self._lock:
                    self._trials[name] = known
            return known.ask()

        def forget(self) -> None:
            with self._lock:
                self._trials.clear()


    trials = Trials()


    def serve():
        with ThreadPoolExecutor() as pool:
            pool.submit(trials.trial, "a")
            pool.submit(trials.trial, "a")
            pool.submit(trials.forget)
"""


def command(folder, *words, ok=(0, 1)):
    """Runs raceproof in a folder; exit code, stdout, stderr."""
    environment = os.environ | {"NO_COLOR": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "raceproof", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode in ok, ran.stdout + ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


def proofs(folder, *words):
    """The findings of `prove --format json`, by rule."""
    _, out, _ = command(folder, "prove", ".", "--format", "json", "--isolated", *words, ok=(0, 1, 2))
    report = json.loads(out)
    assert report["schema"] == 1
    return {finding["rule"]: finding for finding in report["findings"]}


def run_tests(folder):
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
    )
    return ran.returncode, ran.stdout


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


def test_from_the_finding_to_the_proof(tmp_path):
    write(tmp_path, monitor=LAZY)
    code, out, _ = command(tmp_path, "prove", ".", "--write", "tests", "--isolated")
    assert code == 1
    assert "[unlocked-lazy-init]" in out and "after the safe fix: proved" in out
    assert "reads `_monitor` = None" in out and "schedule: 1:" in out
    code, said = run_tests(tmp_path)
    assert code == 1 and "2 failed" in said, said
    code, out, _ = command(tmp_path, "fix", ".", "--prove", "--isolated")
    assert code == 0 and "failed before, and is proved now" in out
    code, said = run_tests(tmp_path)
    assert code == 0 and "2 passed" in said, said


def test_the_json_has_the_schedule_and_the_steps(tmp_path):
    write(tmp_path, monitor=LAZY)
    finding = proofs(tmp_path)["unlocked-lazy-init"]
    assert finding["verdict"] == "failed" and not finding["is_elsewhere"]
    assert finding["schedule"].startswith("1:")
    assert finding["case"]["calls"][0]["function"] == "get_monitor"
    assert any(step["decides"] for step in finding["steps"])
    assert finding["after_fix"]["verdict"] == "proved" and finding["after_fix"]["safety"] == "safe"
    assert finding["certificate"]["semantics"] in ("free-threaded", "gil")


def test_packages_that_are_missing_are_stubbed_and_named(tmp_path):
    text = """
        from nowhere_to_be_found import APIRouter, BaseModel, Depends, HTTPException
        from nowhere_to_be_found.extras import retry

        router = APIRouter(prefix="/hits")


        class Hit(BaseModel):
            path: str
            weight: int = 1


        class Hits:
            def __init__(self):
                self._total = 0

            def add(self, hit: Hit) -> None:
                self._total += hit.weight


        hits = Hits()


        @router.post("/")
        @retry
        def post_hit(hit: Hit) -> None:
            if hit.path == "":
                raise HTTPException(status_code=404)
            hits.add(hit)
    """
    write(tmp_path, hits=text)
    finding = proofs(tmp_path)["unlocked-increment"]
    assert finding["verdict"] == "failed", finding
    assert "stubbed: nowhere_to_be_found" in finding["notes"]
    assert "`self._total` is 1 at the end, and after one call after another 2" in finding["reason"]


def test_a_finding_that_no_schedule_shows_is_demoted(tmp_path):
    write(tmp_path, flags=HARMLESS)
    finding = proofs(tmp_path)["publish-before-init"]
    assert finding["verdict"] == "proved" and finding["is_demoted"] and finding["confidence"] == "low"
    code, out, _ = command(tmp_path, "prove", ".", "--isolated")
    assert code == 0
    assert "demoted: no schedule of the scenario fails" in out and "1 demoted" in out


def test_a_fix_is_judged_by_its_own_failure_and_what_is_left_is_told(tmp_path):
    write(tmp_path, trials=TWO_DEFECTS)
    before = (tmp_path / "trials.py").read_text()
    rule = ("--select", "split-critical-section", "--isolated")
    after = proofs(tmp_path, *rule[:2])["split-critical-section"]["after_fix"]
    assert after["verdict"] == "failed" and after["is_elsewhere"]
    code, out, _ = command(tmp_path, "fix", ".", "--unsafe", "--prove", *rule)
    assert code == 0
    assert "failed before; its failure is gone, and another one is left, by the order of trials.py:" in out
    assert (tmp_path / "trials.py").read_text() != before


# The fix gives each subclass a slot, and the method goes on to use that of the base class.
ONE_SLOT = """
    import threading


    class Manager:
        _instance = None
        _lock = threading.Lock()

        @classmethod
        def get(cls):
            with Manager._lock:
                if Manager._instance is None:
                    Manager._instance = cls()
                return Manager._instance


    class IncidentManager(Manager):
        pass
"""


def test_a_fix_whose_scenario_still_fails_is_refused(tmp_path):
    write(tmp_path, slot=ONE_SLOT)
    before = (tmp_path / "slot.py").read_text()
    rule = ("--select", "shared-singleton-slot", "--isolated", "--confidence", "low")
    _, out, _ = command(tmp_path, "fix", ".", "--unsafe", "--diff", *rule)
    assert "+" in out, "without --prove the fix is made"
    code, out, _ = command(tmp_path, "fix", ".", "--unsafe", "--prove", *rule)
    assert code == 1
    assert "[shared-singleton-slot] not fixed: its scenario still fails after the fix" in out
    assert (tmp_path / "slot.py").read_text() == before


def test_a_change_that_does_not_help_still_fails(tmp_path):
    """Asked as `fix --prove` asks, with a defect behind the first that must not hide it."""
    write(tmp_path, trials=TWO_DEFECTS)
    path = str(tmp_path / "trials.py")
    text = (tmp_path / "trials.py").read_text()
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "_trials" in line and "name" in line]
    question = serial_question(path, "Trials.trial", (lines[0], lines[-1]), "self._trials")
    (found,) = ask([question])
    assert found["verdict"] == "failed"
    overlay = {path: "# a comment moves the lines\n" * 3 + text}
    (again,) = ask([question | {"case": found["case"], "reason": found["reason"]}], overlay=overlay)
    assert again["verdict"] == "failed" and not again["is_elsewhere"], again


def serial_question(path, function, lines, place):
    """Does one function, called twice at once, come to what it comes to in some order?"""
    first, last = lines
    side = {
        "functions": [{"file": path, "function": function}],
        "lines": [{"file": path, "first": first, "last": last}],
        "is_task": False,
    }
    question = {"sides": [side], "alone": [], "fault": None, "used": "", "place": place, "place_file": path}
    return (
        question
        | dict.fromkeys(("case", "reason"))
        | dict.fromkeys(("folder", "title", "fingerprint"), "")
        | {"expects": ["serial"]}
    )


def ask(questions, overlay=None):
    """What the child of `prove` answers."""
    path = questions[0]["place_file"]
    batch = {"questions": questions, "files": [path], "root": os.path.dirname(path), "overlay": overlay or {}}
    batch |= {"max_runs": 1000, "seconds_left": None, "time_limit": 60, "memory_limit": 2048}
    words = [sys.executable, "-P", "-m", "raceproof.prove"]
    ran = subprocess.run(words, input=json.dumps(batch), capture_output=True, text=True, timeout=110)
    return [json.loads(line)["answer"] for line in ran.stdout.splitlines()]


def test_the_exit_code_is_that_of_findings_and_else_that_of_giving_up(tmp_path):
    write(tmp_path, monitor=LAZY, broken=textwrap.dedent(LAZY) + "raise ValueError\n")
    for path, expected in (("monitor.py", 1), ("broken.py", 2), (".", 1)):
        code, _, _ = command(tmp_path, "prove", path, "--isolated", ok=(0, 1, 2))
        assert code == expected, path


def test_a_finding_that_kills_its_process_costs_itself_only(tmp_path):
    text = textwrap.dedent(LAZY) + textwrap.dedent("""
        import os

        _store = None


        def get_store():
            global _store
            if _store is None:
                os.kill(os.getpid(), 9)
                _store = Monitor()
            return _store


        def use():
            get_store().samples.append(1)


        threading.Thread(target=use)
    """)
    write(tmp_path, monitor=text)
    _, out, _ = command(tmp_path, "prove", ".", "--format", "json", "--isolated", "--time-limit", "20", ok=(1,))
    found = {finding["place"]: finding for finding in json.loads(out)["findings"]}
    assert found["_monitor"]["verdict"] == "failed"
    assert found["_store"]["verdict"] == "gave_up" and "SIGKILL" in found["_store"]["reason"], found["_store"]


def test_a_budget_ends_what_has_not_begun(tmp_path):
    write(tmp_path, monitor=LAZY)
    finding = proofs(tmp_path, "--budget", "0")["unlocked-lazy-init"]
    assert finding["verdict"] == "gave_up" and "the budget of 0 s" in finding["reason"]


def test_a_budget_that_ends_between_two_findings_is_told_as_such(tmp_path):
    """The import takes longer than the budget: the child answers nothing, and that is not its death."""
    write(tmp_path, monitor="import time\n\ntime.sleep(3)\n" + textwrap.dedent(LAZY))
    finding = proofs(tmp_path, "--budget", "2")["unlocked-lazy-init"]
    assert finding["verdict"] == "gave_up" and "the budget of 2 s" in finding["reason"]


def test_what_the_import_starts_is_left_out_and_lends_its_arguments(tmp_path):
    text = """
        import threading

        _jobs = []


        def take(jobs, at_most):
            while len(jobs) > at_most:
                jobs.pop()


        _jobs.extend("abc")
        for _ in range(2):
            threading.Thread(target=take, args=(_jobs, 2)).start()
    """
    write(tmp_path, jobs=text)
    (found,) = ask([serial_question(str(tmp_path / "jobs.py"), "take", (9, 9), "_jobs")])
    assert found["verdict"] == "failed" and found["case"]["arguments"] == "program", found
    assert "started by the import, and left out: take" in found["notes"]


def test_locks_in_two_orders_deadlock_in_a_schedule(tmp_path):
    text = """
        import threading


        class Bank:
            def __init__(self):
                self._a = threading.Lock()
                self._b = threading.Lock()

            def there(self):
                with self._a:
                    with self._b:
                        pass

            def back(self):
                with self._b:
                    with self._a:
                        pass


        bank = Bank()
        threading.Thread(target=bank.there)
        threading.Thread(target=bank.back)
    """
    write(tmp_path, bank=text)
    finding = proofs(tmp_path)["lock-order-inversion"]
    assert finding["verdict"] == "failed" and finding["kind"] == "deadlock"


def test_a_loop_without_end_is_run_for_one_pass(tmp_path):
    text = """
        import threading
        import time


        class Queue:
            def __init__(self):
                self._depth = 4
                self._stop = threading.Event()
                self._drainer = threading.Thread(target=self._drain_forever)

            def put(self) -> None:
                self._depth += 1

            def _drain_forever(self):
                while not self._stop.is_set():
                    time.sleep(0.1)
                    self._depth -= 1


        queue = Queue()
        queue._drainer.start
        threading.Thread(target=queue.put)
    """
    write(tmp_path, depth=text)
    finding = proofs(tmp_path)["unlocked-increment"]
    assert finding["verdict"] == "failed", finding
    assert "one pass of `Queue._drain_forever`" in finding["words"], finding["words"]


@pytest.mark.parametrize(
    ("line", "limit", "reason"),
    [
        ("raise ValueError('no settings')", (), "cannot be imported: ValueError: no settings"),
        ("bytearray(2_000_000_000)", ("--memory-limit", "400"), "memory"),
        ("while True: pass", ("--time-limit", "1"), "the time limit of 1 s was reached"),
    ],
)
def test_what_cannot_be_run_is_given_up_with_a_reason(tmp_path, line, limit, reason):
    write(tmp_path, monitor=textwrap.dedent(LAZY) + line + "\n")
    finding = proofs(tmp_path, *limit)["unlocked-lazy-init"]
    assert finding["verdict"] == "gave_up" and not finding["is_demoted"]
    assert reason.lower() in finding["reason"].lower(), finding["reason"]


def test_a_rule_that_is_not_about_an_order_has_no_scenario(tmp_path):
    text = """
        import threading


        def serve(requests):
            for request in requests:
                threading.Thread(target=print, args=(request,)).start()
    """
    write(tmp_path, serve=text)
    finding = proofs(tmp_path)["unbounded-threads"]
    assert finding["verdict"] == "gave_up" and "how often it is called, not on their order" in finding["reason"]


OTHER_SHAPES = {
    "unreleased-lock": """
        import json
        import threading

        _lock = threading.Lock()
        _lines = []


        def note(event: dict) -> None:
            _lock.acquire()
            _lines.append(json.dumps(event))
            _lock.release()


        threading.Thread(target=note)
        """,
    "lock-across-await": """
        import asyncio
        import threading

        _lock = threading.Lock()


        async def export(name):
            with _lock:
                await asyncio.sleep(0.1)
                return name


        async def main():
            print(await asyncio.gather(export("a"), export("b")))


        asyncio.run(main())
        """,
    "condition-misuse": """
        import threading
        from collections import deque


        class Jobs:
            def __init__(self):
                self._ready = threading.Condition()
                self._jobs = deque()

            def put(self, job) -> None:
                with self._ready:
                    self._jobs.append(job)
                    self._ready.notify_all()

            def take(self):
                with self._ready:
                    if not self._jobs:
                        self._ready.wait()
                    return self._jobs.popleft()


        jobs = Jobs()
        threading.Thread(target=jobs.take)
        """,
    "start-in-constructor": """
        import threading


        class Poller:
            def __init__(self):
                threading.Thread(target=self._poll, daemon=True).start()
                self._sources = {}

            def _poll(self):
                try:
                    for name in self._sources:
                        print(name)
                except Exception:
                    pass
        """,
    "useless-lock": """
        import threading


        class Counter:
            def __init__(self):
                self.value = 0

            def add(self):
                lock = threading.Lock()
                with lock:
                    self.value += 1


        counter = Counter()
        threading.Thread(target=counter.add)
        """,
    "shared-singleton-slot": """
        import threading


        class Provider:
            _instance = None
            _lock = threading.Lock()

            @classmethod
            def get(cls):
                with cls._lock:
                    if cls._instance is None:
                        cls._instance = cls()
                    return cls._instance


        class Special(Provider):
            pass
        """,
    "event-loop-lock": """
        import asyncio
        import threading


        def read_sensor(ready):
            ready.set()


        async def main():
            ready = asyncio.Event()
            thread = threading.Thread(target=read_sensor, args=(ready,))
            thread.start()
            await ready.wait()
            thread.join()


        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("rule", OTHER_SHAPES)
def test_rules_with_a_scenario_of_their_own(tmp_path, rule):
    write(tmp_path, shape=OTHER_SHAPES[rule])
    finding = proofs(tmp_path, "--select", rule, "--confidence", "low")[rule]
    assert finding["verdict"] == "failed" and not finding["is_elsewhere"], finding
    after = finding["after_fix"]
    # Where the thread begins after the constructor, nothing is shared any more.
    is_vacuous = after is not None and "touch the same thing" in (after["reason"] or "")
    assert after is None or after["verdict"] == "proved" or (rule == "start-in-constructor" and is_vacuous), after


def test_help_says_that_the_code_is_run(tmp_path):
    _, out, _ = command(tmp_path, "prove", "--help")
    assert "imports and calls the code" in out and "setrlimit" in " ".join(out.split())
