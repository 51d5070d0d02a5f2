"""Exploration of programs with event loops: one loop, several in several threads, and loops mixed with threads."""

import asyncio
import sys
import threading
from types import SimpleNamespace

import pytest

from raceproof.testing import explore, replay

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="frames of CPython 3.13 are read")


def failed(setup, threads, invariant=None):
    outcome = explore(setup, threads, invariant)
    assert outcome.verdict == "failed", (outcome.verdict, outcome.reason, outcome.certificate)
    again = replay(setup, threads, invariant, schedule=outcome.schedule)
    assert (again.verdict, again.kind) == ("failed", outcome.kind)
    return outcome


def account():
    return SimpleNamespace(balance=100, paid=0, lock=None)


async def pay(s):
    if s.balance >= 100:
        await asyncio.sleep(0)
        s.balance -= 100
        s.paid += 1


async def pay_locked(s):
    if s.lock is None:
        s.lock = asyncio.Lock()
    async with s.lock:
        await pay(s)


def test_a_check_before_an_await_and_an_act_behind_it():
    failed(account, [pay, pay], lambda s: s.balance >= 0)


def test_a_lock_of_the_loop_helps():
    outcome = explore(account, [pay_locked, pay_locked], lambda s: s.balance >= 0 and s.paid == 1)
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)


def test_a_lock_of_a_loop_does_not_help_between_loops():
    def in_its_own_loop(s):
        asyncio.run(pay_locked(s))

    outcome = failed(account, [in_its_own_loop, in_its_own_loop], lambda s: s.balance >= 0 and s.paid == 1)
    assert outcome.kind in ("invariant", "raised", "missed wake-up")


def test_a_future_that_nobody_completes_is_a_missed_wake_up():
    async def wait(s):
        s.n += 1
        await asyncio.get_running_loop().create_future()

    def other(s):
        s.n += 1

    outcome = explore(lambda: SimpleNamespace(n=0), [wait, other])
    assert (outcome.verdict, outcome.kind) == ("failed", "missed wake-up")


def test_a_thread_wakes_a_loop():
    async def wait(s):
        s.future = asyncio.get_running_loop().create_future()
        s.ready.set()
        s.got = await s.future

    def send(s):
        s.ready.wait()
        s.future.get_loop().call_soon_threadsafe(s.future.set_result, 7)

    outcome = explore(
        lambda: SimpleNamespace(ready=threading.Event(), future=None, got=None), [wait, send], lambda s: s.got == 7
    )
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)


def test_work_in_an_executor_is_under_control():
    def add(s):
        held = s.n
        s.n = held + 1

    async def run(s):
        loop = asyncio.get_running_loop()
        await asyncio.gather(loop.run_in_executor(None, add, s), loop.run_in_executor(None, add, s))

    assert failed(lambda: SimpleNamespace(n=0), [run], lambda s: s.n == 2).pattern == "lost update"


def test_a_timeout_of_the_loop_can_come_first():
    async def work(s):
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                s.done = True
        except TimeoutError:
            s.late = True

    async def other(s):
        await asyncio.sleep(0)

    failed(lambda: SimpleNamespace(done=False, late=False), [work, other], lambda s: s.done)


def test_sleeps_end_in_the_order_of_time_where_nothing_else_is_to_do():
    async def long(s):
        await asyncio.sleep(2)
        s.log.append("long")

    async def short(s):
        await asyncio.sleep(1)
        s.log.append("short")

    outcome = explore(lambda: SimpleNamespace(log=[]), [long, short], lambda s: sorted(s.log) == ["long", "short"])
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)


def test_an_update_split_by_an_await_is_told_by_the_order_of_tasks():
    async def add(s):
        held = s.n
        await asyncio.sleep(0)
        s.n = held + 1

    outcome = explore(lambda: SimpleNamespace(n=0), [add, add], lambda s: s.n == 2)
    assert (outcome.verdict, outcome.pattern) == ("failed", "order of tasks at an await")
