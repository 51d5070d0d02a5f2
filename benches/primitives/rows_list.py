"""ThreadSafeList: row 26."""

import random
import threading

from harness import Rival, Row

from raceproof import ThreadSafeList, share

N = 100_000
ITEMS = [(idx,) for idx in range(10_000)]


class LockedList:
    """A list behind a lock: what the guide writes by hand."""

    def __init__(self, items=()):
        self._list = list(items)
        self._lock = threading.Lock()

    def append(self, item):
        with self._lock:
            self._list.append(item)

    def __getitem__(self, idx):
        with self._lock:
            return self._list[idx]


PLACES = [random.Random(idx).choices(range(len(ITEMS)), k=N) for idx in range(2)]


def of(make, items=()):
    return lambda threads: (make(items), PLACES[:threads])


def ours(items):
    return share(ThreadSafeList(items))


def append(items, places):
    for place in places:
        items.append(place)


def read(items, places):
    for place in places:
        items[place]


def against(worker, items, built_in, by_hand):
    return [
        Rival("list", of(list, items), worker, built_in),
        Rival("list in a class with a Lock", of(LockedList, items), worker, by_hand),
    ]


ROWS = [
    Row("26", "ThreadSafeList.append", 2, N, (of(ours), append), against(append, (), 0.70, 0.18)),
    Row("26", "ThreadSafeList, l[i]", 2, N, (of(ours, ITEMS), read), against(read, ITEMS, 0.55, 0.08)),
]
