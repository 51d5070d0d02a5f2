"""Row 21: races for a singleton. `python races_once.py [RACES]`: 10 000 races of 4 threads, each with an event loop of
its own and 4 tasks on it, that ask for an instance nobody has made. Prints the failures; ends with 1 if there are any.

The classes take turns: one with a plain constructor, one with an async part, one whose first construction fails, one
that two of the threads ask for without a loop. A failure is an instance made more than once, an object that is not the
instance, an exception that was not the constructor's, or a wait that did not end. With `--usual` the races are run on
the usual singleton with an asyncio.Lock instead (30 are enough to see it fail).
"""

import argparse
import asyncio
import sys
import threading
import time

import raceproof

THREADS = 4
TASKS = 4
SECONDS_MAX = 20.0


class Planned(Exception):
    """What a constructor raises that is meant to fail."""


class Count:
    def __init__(self):
        self.made = []


def plain(count):
    class Single(raceproof.ThreadSafeSingleton, timeout=SECONDS_MAX):
        def __init__(self):
            count.made.append(self)

    return Single


def slow(count):
    class Single(raceproof.ThreadSafeSingleton, timeout=SECONDS_MAX):
        async def __ainit__(self):
            await asyncio.sleep(0)
            count.made.append(self)
            await asyncio.sleep(0.0001)

    return Single


def failing(count):
    class Single(raceproof.ThreadSafeSingleton, timeout=SECONDS_MAX):
        attempts = 0

        def __init__(self):
            type(self).attempts += 1
            if self.attempts == 1:
                raise Planned
            count.made.append(self)

    return Single


def usual(count):
    class Single:
        _instance = None
        _lock = asyncio.Lock()

        @classmethod
        async def get_instance(cls):
            if cls._instance is None:
                async with cls._lock:
                    if cls._instance is None:
                        instance = cls()
                        await asyncio.sleep(0.005)
                        count.made.append(instance)
                        cls._instance = instance
            return cls._instance

    return Single


async def tasks_of(single):
    calls = (single.get_instance() for _ in range(TASKS))
    return await asyncio.gather(*calls, return_exceptions=True)


def without_loop(single):
    def call():
        try:
            return single.instance()
        except Exception as error:
            return error

    return [call() for _ in range(TASKS)]


class Thread:
    """A thread with a loop of its own that runs one race after the other."""

    def __init__(self, barrier, idx):
        self.idx, self.single, self.is_mixed, self.got = idx, None, False, None
        self.barrier, self.is_over = barrier, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with asyncio.Runner() as runner:
            while True:
                self.barrier.wait()
                if self.is_over:
                    return
                try:
                    is_sync = self.is_mixed and self.idx % 2
                    self.got = without_loop(self.single) if is_sync else runner.run(tasks_of(self.single))
                except BaseException as error:
                    self.got = [error]
                self.barrier.wait()


def judge(count, results):
    if len(count.made) != 1:
        return f"made {len(count.made)} times"
    failed = [one for one in results if one is not count.made[0]]
    planned = sum(isinstance(one, Planned) for one in failed)
    if len(failed) > planned or planned > 1:
        return f"got {failed[:3]}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("races", type=int, nargs="?", default=10_000)
    parser.add_argument("--usual", action="store_true")
    chosen = parser.parse_args()
    kinds = [usual] if chosen.usual else [plain, slow, failing, plain]
    barrier = threading.Barrier(THREADS + 1)
    threads = [Thread(barrier, idx) for idx in range(THREADS)]
    failures, begin = [], time.monotonic()
    before = raceproof.set_sharing(False)  # ten thousand classes would stay for good
    for race in range(chosen.races):
        count = Count()
        single = kinds[race % len(kinds)](count)
        for thread in threads:
            thread.single, thread.is_mixed, thread.got = single, race % len(kinds) == 3, [None]
        try:
            barrier.wait(SECONDS_MAX)
            barrier.wait(SECONDS_MAX)
        except threading.BrokenBarrierError:
            failures.append((race, "a wait did not end"))
            break
        failure = judge(count, sum((thread.got for thread in threads), []))
        if failure:
            failures.append((race, failure))
    raceproof.set_sharing(before)
    for thread in threads:
        thread.is_over = True
    barrier.abort() if failures and barrier.broken else barrier.wait(SECONDS_MAX)
    print(
        f"{len(failures)} failures in {race + 1} races, {THREADS} threads x {TASKS} tasks, {time.monotonic() - begin:.0f} s"
    )
    for race, failure in failures[:5]:
        print(f"  race {race}: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
