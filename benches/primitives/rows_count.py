"""Counters, the thread-local value, the pool: rows 16 to 18, 25, 27 and 28."""

import concurrent.futures
import itertools
import threading

from harness import Rival, Row
from peers import peer

import raceproof

cereggii = peer("cereggii")
ft_concurrency = peer("ft_utils.concurrency")
prometheus = peer("prometheus_client")

N = 300_000
CREATED = 100_000
TASKS = 3_000


def shared(make):
    """A setup: one object for all threads."""
    return lambda threads: (make(), [N] * threads)


def created(type_):
    """A setup: the type itself, of which each thread makes objects."""
    return lambda threads: (type_, [CREATED] * threads)


# Ten operations in a turn, so that the operation is measured and not the loop.
def add_one(counter, n):
    for _ in range(n // 10):
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1
        counter += 1


def inc(counter, n):
    for _ in range(n // 10):
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()
        counter.inc()


class LockedInt:
    __slots__ = ("lock", "value")

    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()


def add_one_locked(counter, n):
    for _ in range(n):
        with counter.lock:
            counter.value += 1


def make_many(type_, n):
    for _ in range(n):
        type_()


def local_of_the_standard_library():
    local = threading.local()
    local.value = 1
    return local


def read_value(local, n):
    local.value = 1
    for _ in range(n // 10):
        local.value
        local.value
        local.value
        local.value
        local.value
        local.value
        local.value
        local.value
        local.value
        local.value


def submit_and_ask(pool, n):
    for future in [pool.submit(abs, 1) for _ in range(n)]:
        future.result()


def one_at_a_time(pool, n):
    for _ in range(n):
        pool.submit(abs, 1).result()


def tasks(pool, n=TASKS):
    """A setup: a pool whose threads have started, and that every sample uses."""
    list(pool.map(abs, range(100)))
    return lambda threads: (pool, [n] * threads)


def counting_rivals(worker_at_most, lock_at_most):
    rivals = [Rival("int += 1 under threading.Lock", shared(LockedInt), add_one_locked, lock_at_most)]
    if cereggii:
        rivals.append(Rival("cereggii AtomicInt64", shared(lambda: cereggii.AtomicInt64(0)), add_one, worker_at_most))
    if ft_concurrency:
        make = shared(lambda: ft_concurrency.AtomicInt64(0))
        rivals.append(Rival("ft_utils AtomicInt64", make, add_one, worker_at_most))
    return rivals


def creating_rivals():
    rivals = [Rival("threading.Lock()", created(threading.Lock), make_many, 0.20)]
    if cereggii:
        rivals.append(Rival("cereggii AtomicInt64()", created(cereggii.AtomicInt64), make_many, 1.0))
    if ft_concurrency:
        rivals.append(Rival("ft_utils AtomicInt64()", created(ft_concurrency.AtomicInt64), make_many, 1.0))
    return rivals


def prometheus_rivals():
    if not prometheus:
        return []
    number = itertools.count()
    make = shared(lambda: prometheus.Counter(f"c{next(number)}", "a counter", registry=None))
    return [Rival("prometheus_client Counter", make, inc, 0.03)]


striped = (shared(lambda: raceproof.StripedCounter(shared=True)), add_one)
atomic = (shared(lambda: raceproof.AtomicInt(shared=True)), add_one)
striped_inc = (shared(lambda: raceproof.StripedCounter(shared=True)), inc)
local = (shared(lambda: raceproof.ThreadLocal(shared=True)), read_value)
local_rival = Rival("threading.local", shared(local_of_the_standard_library), read_value, 0.15)
our_pool = raceproof.Pool(2, max_queue=TASKS)
their_pool = concurrent.futures.ThreadPoolExecutor(2)

ROWS = [
    Row("16", "StripedCounter += 1", 2, N, striped, counting_rivals(0.14, 0.03), scale_at_least=1.95),
    Row("17", "AtomicInt += 1", 2, N, atomic, counting_rivals(0.50, 0.12)),
    Row("18", "StripedCounter.inc()", 2, N, striped_inc, prometheus_rivals()),
    Row("25", "AtomicInt()", 2, CREATED, (created(raceproof.AtomicInt), make_many), creating_rivals()),
    Row("25", "StripedCounter()", 2, CREATED, (created(raceproof.StripedCounter), make_many), creating_rivals()),
    Row("27", "ThreadLocal read", 2, N, local, [local_rival]),
    Row(
        "28",
        "Pool: submit all, then ask each",
        0,
        TASKS,
        (tasks(our_pool), submit_and_ask),
        [Rival("ThreadPoolExecutor", tasks(their_pool), submit_and_ask, 0.2)],
    ),
    Row(
        "28",
        "Pool: submit one, ask for it, submit the next",
        0,
        TASKS // 10,
        (tasks(our_pool, TASKS // 10), one_at_a_time),
        [Rival("ThreadPoolExecutor", tasks(their_pool, TASKS // 10), one_at_a_time)],
    ),
]
