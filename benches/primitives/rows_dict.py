"""ThreadSafeDict: rows 4 (the part of the dict subclass), 8, 9, 13 and 14."""

import random
import threading

from harness import Rival, Row
from loops import filled, get, read, set_default, write
from peers import peer

from raceproof import ThreadSafeDict, share

cereggii = peer("cereggii")
ft = peer("ft_utils.concurrency")
cc = peer("concurrent_collections")

N = 100_000
KEYS = [f"key:{idx:06d}" for idx in range(10_000)]
TUPLES = {key: (idx,) for idx, key in enumerate(KEYS)}
COUNTS = {key: 1000 for key in KEYS}


class LockedDict:
    """A dict behind a lock: what the guide writes by hand."""

    def __init__(self, source):
        self._dict = dict(source)
        self._lock = threading.Lock()

    def __getitem__(self, key):
        with self._lock:
            return self._dict[key]

    def __setitem__(self, key, value):
        with self._lock:
            self._dict[key] = value

    def get(self, key, default=None):
        with self._lock:
            return self._dict.get(key, default)

    def setdefault(self, key, default=None):
        with self._lock:
            return self._dict.setdefault(key, default)


def chosen(threads):
    return [random.Random(idx).choices(KEYS, k=N) for idx in range(threads)]


SEQUENCES = chosen(2)


def of(make, source=TUPLES):
    return lambda threads: (make(source), SEQUENCES[:threads])


def ours(source):
    return share(ThreadSafeDict(source))


def update_with(d, keys):
    add = lambda value: value + 1
    for key in keys:
        d.update_with(key, add)


LOCK = threading.Lock()


def update_locked(d, keys):
    lock = LOCK
    for key in keys:
        with lock:
            d[key] += 1


def update_atomic(d, keys):
    add = lambda value: value + 1
    for key in keys:
        d.update_atomic(key, add)


ROUNDS = 20


def items(d, _):
    for _ in range(ROUNDS):
        d.items()


def list_of_items(d, _):
    for _ in range(ROUNDS):
        list(d.items())


def rivals_of_get():
    yield Rival("dict", of(dict), get, 0.30)
    if cereggii:
        yield Rival("cereggii", of(cereggii.AtomicDict), get, 0.30)
    if ft:
        yield Rival("ft_utils", of(filled(ft.ConcurrentDict)), get, 0.30)


def rivals_of_setdefault():
    yield Rival("dict", of(dict), set_default, 0.35)
    if ft:
        yield Rival("ft_utils", of(filled(ft.ConcurrentDict)), set_default, 0.30)


def updates(threads, at_most):
    rivals = [Rival("dict + Lock", of(dict, COUNTS), update_locked, at_most)]
    if cc and threads == 2:
        peers = Rival("concurrent-collections", of(cc.ConcurrentDictionary, COUNTS), update_atomic, 0.10)
        rivals.append(peers)
    return Row("13", "update_with(key, fn)", threads, N, (of(ours, COUNTS), update_with), rivals)


def snapshots():
    rivals = [Rival("list(dict.items())", of(dict), list_of_items, 0.95)]
    if ft:
        rivals.append(Rival("ft_utils", of(filled(ft.ConcurrentDict)), items, 0.65))
    return Row("14", "items() of 10 000 (per entry)", 1, ROUNDS * len(KEYS), (of(ours), items), rivals)


def replaced(operation, worker, at_most):
    rivals = [Rival("dict in a class with a Lock", of(LockedDict), worker, at_most)]
    return Row("9", f"ThreadSafeDict, {operation}", 2, N, (of(ours), worker), rivals)


ROWS = [
    Row("4", "ThreadSafeDict.get hit", 2, N, (of(ours), get), [*rivals_of_get()]),
    Row("4", "ThreadSafeDict.setdefault hit", 2, N, (of(ours), set_default), [*rivals_of_setdefault()]),
    Row("8", "ThreadSafeDict, d[k]", 0, N, (of(ThreadSafeDict), read), [Rival("dict", of(dict), read, 1.00)]),
    replaced("get", get, 0.08),
    replaced("d[k] = v", write, 0.08),
    replaced("setdefault", set_default, 0.09),
    updates(1, 0.45),
    updates(2, 0.35),
    snapshots(),
]
