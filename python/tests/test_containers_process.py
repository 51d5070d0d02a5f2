"""The containers and the process: fork, shutdown, subinterpreters. See `docs/guide/containers.md`, "All three"."""

import os
import threading

import pytest
from conftest import run_python

from raceproof import ThreadSafeDict, ThreadSafeList, ThreadSafeSet


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_can_use_what_other_threads_used_at_the_fork():
    """After a fork the child can use every container; what another thread was making at the fork is made anew."""
    d, l, s = ThreadSafeDict(a=0), ThreadSafeList([0]), ThreadSafeSet()
    inside, over = threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert over.wait(60)
        return "parent"

    def use():
        while not over.is_set():
            d.add("a")
            d.update_with("a", lambda n: n)
            l.update_at(0, lambda n: n + 1)
            s.add_if_absent(1)
            s.drain()

    threads = [threading.Thread(target=d.get_or_create, args=("k", slow)), threading.Thread(target=use)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            made = d.get_or_create("k", lambda: "child")
            d.add("a")
            l.update_at(0, lambda n: n)
            s.add_if_absent(1)
            os._exit(0 if made == "child" else 1)
        assert os.waitpid(child, 0)[1] == 0
    over.set()
    for thread in threads:
        thread.join(60)
    assert d["k"] == "parent"


# What programs of their own begin with: a factory that does not end.
SLOW = """
        import signal, threading, time
        from raceproof import ThreadSafeDict
        d = ThreadSafeDict()
        inside = threading.Event()
        def slow():
            inside.set()
            time.sleep(1000)
"""


def test_a_waiting_daemon_does_not_keep_the_interpreter():
    """A thread that waits in `get_or_create` does not keep the interpreter from shutting down, if it is a daemon."""
    code = """
        for make in (slow, int):
            threading.Thread(target=d.get_or_create, args=("k", make), daemon=True).start()
        inside.wait()
        time.sleep(0.1)
        print("end")
    """
    assert run_python(SLOW + code) == "end"


def test_ctrl_c_interrupts_who_waits():
    """It blocks while another thread's factory runs, without a timeout; Ctrl-C interrupts it."""
    code = """
        # Who starts a program in the background may have it ignore the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=d.get_or_create, args=("k", slow), daemon=True).start()
        inside.wait()
        threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
        try:
            d.get_or_create("k", int)
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert run_python(SLOW + code) == "interrupted"


def test_containers_that_live_to_the_end_are_no_trouble():
    """Shutdown: containers with objects whose `__del__` uses them."""
    code = """
        from raceproof import ThreadSafeDict, ThreadSafeList, ThreadSafeSet, share
        d, l, s = share(ThreadSafeDict()), ThreadSafeList(), ThreadSafeSet()
        class Late:
            def __del__(self, d=d, l=l, s=s):
                d.add("late"); l.append(1); s.add_if_absent(2)
        d["k"] = Late(); l.append(Late()); s.add(Late())
        l.append(l)
        print("end")
    """
    assert run_python(code) == "end"


def test_a_subinterpreter_cannot_import_it():
    """A subinterpreter cannot import `raceproof`: `ImportError`."""
    pytest.importorskip("_interpreters")
    code = """
        import _interpreters
        id = _interpreters.create()
        failed = _interpreters.exec(id, "import raceproof")
        print(failed.type.__name__ if failed else "imported")
    """
    assert run_python(code) == "ImportError"
