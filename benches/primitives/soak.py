"""Uses all containers at once from many threads for some minutes, and says what went wrong: `soak.py --minutes N`.

Checked all the time: a value is only seen under its key, counts add up, nothing is lost or seen twice, iteration does
not fail, memory stays flat. The exit status is 1 if anything was wrong.
"""

import argparse
import collections
import gc
import os
import random
import sys
import threading
import time

import raceproof
from raceproof import ConcurrentMap, CounterMap

WRONG = collections.Counter()


def check(holds, what):
    if not holds:
        WRONG[what] += 1


class Task:
    """Some functions that are called again and again, each in a thread of its own, and a check at the end."""

    def __init__(self, name, functions, at_end=lambda: None):
        self.name, self.functions, self.at_end = name, functions, at_end
        self.n_calls = 0


def values_under_their_keys(make, name):
    keys = [f"k{n}" for n in range(16)]
    d = make()

    def write(source):
        key = source.choice(keys)
        d[key] = (key, source.random())

    def come_and_go(source):
        key = source.choice(keys)
        value = d.pop(key, None)
        check(value is None or value[0] == key, f"{name}: popped a value of another key")
        d.setdefault(key, (key, 0))

    def read(source):
        key = source.choice(keys)
        value = d.get(key)
        check(value is None or value[0] == key, f"{name}: read a value of another key")

    def walk(_):
        for key, value in list(d.items()):
            check(value[0] == key, f"{name}: iterated over a value of another key")

    return Task(name, [write, come_and_go, read, walk])


def counting(make, name):
    keys = [f"k{n}" for n in range(16)]
    d = make()
    added = collections.Counter()

    def add(source):
        d.add(source.choice(keys), 1)
        added[threading.get_ident()] += 1

    def add_many(source):
        d.add_many(source.choices(keys, k=100))
        added[threading.get_ident()] += 100

    def update_with(source):
        d.update_with(source.choice(keys), lambda count: count + 1, 0)
        added[threading.get_ident()] += 1

    def take_and_put_back(source):
        key = source.choice(keys)
        count = d.pop(key, 0)
        d.add(key, count)

    def at_end():
        check(sum(d.values()) == sum(added.values()), f"{name}: {sum(d.values())} counted, {sum(added.values())} added")

    return Task(name, [add, add_many, update_with, take_and_put_back], at_end)


class Key:
    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return self.number % 3

    def __eq__(self, other):
        return isinstance(other, Key) and self.number == other.number


def keys_of_ones_own(make, name):
    d = make()

    def step(source):
        number = source.randrange(30)
        d[Key(number)] = number
        check(d.get(Key(number)) in (None, number), f"{name}: a value of another key")
        d.pop(Key(source.randrange(30)), None)

    def clear(source):
        if source.random() < 0.001:
            d.clear()

    def at_end():
        numbers = [key.number for key in d.keys()]
        check(len(numbers) == len(set(numbers)) == len(d), f"{name}: a key is there twice")

    return Task(name, [step, step, clear], at_end)


def fresh_keys(make, name):
    d = make()

    def step(source):
        key = f"{threading.get_ident()}:{source.random()}"
        d[key] = 1
        check(d.pop(key, None) == 1, f"{name}: a key of one's own was not there")

    return Task(name, [step, step], lambda: check(len(d) == 0, f"{name}: keys are left"))


def tasks():
    makes = {"ConcurrentMap": ConcurrentMap, "ConcurrentMap, 1 shard": lambda: ConcurrentMap(shards=1)}
    counts = {**makes, "CounterMap": CounterMap}
    if hasattr(raceproof, "ThreadSafeDict"):
        makes["ThreadSafeDict"] = counts["ThreadSafeDict"] = raceproof.ThreadSafeDict
    for name, make in makes.items():
        yield values_under_their_keys(make, name)
        yield keys_of_ones_own(make, name)
    for name, make in counts.items():
        yield counting(make, name)
        yield fresh_keys(make, name)


def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(task, seconds):
    stop = time.monotonic() + seconds
    n_calls = [0] * len(task.functions)

    def body(idx):
        source, function = random.Random(idx), task.functions[idx]
        try:
            while time.monotonic() < stop:
                for _ in range(100):
                    function(source)
                n_calls[idx] += 100
        except BaseException as error:
            WRONG[f"{task.name}: {error!r}"] += 1

    threads = [threading.Thread(target=body, args=(idx,), daemon=True) for idx in range(len(task.functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
        if thread.is_alive():
            print(f"{task.name}: a thread hangs")
            os._exit(1)
    task.at_end()
    return sum(n_calls)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    minutes = parser.parse_args().minutes
    all_tasks = list(tasks())
    rounds = 4
    for turn in range(rounds):
        for task in all_tasks:
            task.n_calls += soak(task, minutes * 60 / len(all_tasks) / rounds)
        gc.collect()
        print(f"round {turn + 1} of {rounds}: {rss_mib():.0f} MiB resident", flush=True)
    for task in all_tasks:
        print(
            f"{task.name:24} {', '.join(function.__name__ for function in task.functions):50} {task.n_calls:12,} calls"
        )
    for what, n in WRONG.items():
        print(f"WRONG {n} times: {what}")
    print("nothing went wrong" if not WRONG else f"{sum(WRONG.values())} things went wrong")
    return 1 if WRONG else 0


if __name__ == "__main__":
    sys.exit(main())
