"""The own table: `ConcurrentMap` and `CounterMap` beside `dict`, `dict` with a lock, and the peers.

The maps are shared (`shared=True`), as a map is that lives as long as the program.
"""

import random
import threading

from harness import Rival, Row
from loops import VALUE, filled, get, read, set_default, write
from peers import peer

from raceproof import ConcurrentMap, CounterMap

cereggii = peer("cereggii")
ft = peer("ft_utils.concurrency")
ft_local = peer("ft_utils.local")
cc = peer("concurrent_collections")

OPS = 200_000
KEYS = [f"key:{idx:06d}" for idx in range(10_000)]
HOT = [f"hot:{idx}" for idx in range(16)]
SOURCE = {key: (idx,) for idx, key in enumerate(KEYS)}
LOCK = threading.Lock()


def sequences(keys, seed=7):
    source = random.Random(seed)
    return [[source.choice(keys) for _ in range(OPS)] for _ in range(2)]


def own_sequences():
    """For each thread the same keys as objects of its own."""
    made = []
    for idx in range(2):
        source = random.Random(idx)
        keys = [f"key:{number:06d}" for number in range(10_000)]
        made.append([source.choice(keys) for _ in range(OPS)])
    return made


SEQUENCES = sequences(KEYS)
HOT_SEQUENCES = sequences(HOT)
OWN_SEQUENCES = own_sequences()
NEW_KEYS = [[f"t{thread}:{idx}" for idx in range(100_000)] for thread in range(2)]


def mixed(percent):
    source = random.Random(percent)
    return [[(key, source.random() < percent / 100) for key in keys] for keys in SEQUENCES]


MIXED = {percent: mixed(percent) for percent in (10, 50)}


def over(make, source, sequences):
    """A setup: the container that `make` fills from `source`, and a sequence for each thread."""
    return lambda threads: (make(source), sequences[:threads])


def ours(source):
    return ConcurrentMap(source, shared=True)


def our_counter(source):
    return CounterMap(source, shared=True)


def ft_dict(source):
    return filled(ft.ConcurrentDict)(source)


def insert(d, keys):
    for key in keys:
        d[key] = key


def mix(d, operations):
    value = VALUE
    for key, is_write in operations:
        if is_write:
            d[key] = value
        else:
            d[key]


def assign_cc(d, keys):
    value, assign = VALUE, d.assign_atomic
    for key in keys:
        assign(key, value)


def with_handle(worker):
    return lambda d, keys: worker(d.get_handle(), keys)


def with_wrapper(worker):
    return lambda d, keys: worker(ft_local.LocalWrapper(d), keys)


def best_peers(worker, source, sequences, at_most, worker_cc=None):
    """All ways that the peers offer; the target is against the best of them, so it is put to each."""
    rivals = []
    if cereggii:
        make = over(cereggii.AtomicDict, source, sequences)
        rivals += [
            Rival("cereggii", make, worker, at_most),
            Rival("cereggii handle", make, with_handle(worker), at_most),
        ]
    if ft and ft_local:
        make = over(ft_dict, source, sequences)
        rivals += [
            Rival("ft_utils", make, worker, at_most),
            Rival("ft_utils wrapper", make, with_wrapper(worker), at_most),
        ]
    if cc and worker_cc:
        rivals.append(
            Rival("concurrent-collections", over(cc.ConcurrentDictionary, source, sequences), worker_cc, at_most)
        )
    return rivals


def row(
    number, operation, worker, sequences, at_most, at_most_peers, *, threads=2, source=SOURCE, ops=OPS, worker_cc=None
):
    rivals = [Rival("dict", over(dict, source, sequences), worker, at_most)]
    if at_most_peers is not None:
        rivals += best_peers(worker, source, sequences, at_most_peers, worker_cc)
    return Row(number, operation, threads, ops, (over(ours, source, sequences), worker), rivals)


# --- read-modify-write


def add_each(d, keys):
    for key in keys:
        d.add(key, 1)


def add_many(d, keys):
    d.add_many(keys)


def add_locked(d, keys):
    lock = LOCK
    for key in keys:
        with lock:
            d[key] += 1


def incr_ft(d, keys):
    for key in keys:
        d[key].incr()


def incr_cereggii(d, keys):
    for key in keys:
        d[key].increment_and_get()


def reduce_count(d, keys):
    d.reduce_count(keys)


def increment(number):
    return number + 1


def update_with(d, keys):
    for key in keys:
        d.update_with(key, increment)


def update_locked(d, keys):
    lock = LOCK
    for key in keys:
        with lock:
            d[key] = increment(d[key])


def update_cc(d, keys):
    for key in keys:
        d.update_atomic(key, increment)


def counts(keys):
    return dict.fromkeys(keys, 1000)


def count_rivals(source, sequences, at_most):
    rivals = []
    if ft:
        make = over(lambda keys: ft_dict({key: ft.AtomicInt64(1000) for key in keys}), source, sequences)
        rivals.append(Rival("ft_utils dict of AtomicInt64", make, incr_ft, at_most))
    if cereggii:
        make = over(lambda keys: {key: cereggii.AtomicInt64(1000) for key in keys}, source, sequences)
        rivals.append(Rival("dict of cereggii AtomicInt64", make, incr_cereggii, at_most))
    return rivals


def count_row(
    number, operation, worker, keys, sequences, at_most, rivals, make=our_counter, locked=add_locked, threads=2
):
    source = counts(keys)
    against = [Rival("dict + Lock", over(dict, source, sequences), locked, at_most)]
    return Row(number, operation, threads, OPS, (over(make, source, sequences), worker), against + rivals)


def reduce_rivals(keys, sequences, at_most):
    if not cereggii:
        return []
    return [Rival("cereggii reduce_count", over(cereggii.AtomicDict, counts(keys), sequences), reduce_count, at_most)]


def update_rivals(at_most):
    if not cc:
        return []
    make = over(cc.ConcurrentDictionary, counts(KEYS), SEQUENCES)
    return [Rival("concurrent-collections update_atomic", make, update_cc, at_most)]


ROWS = [
    row("1", "d[k] hit", read, SEQUENCES, 0.36, 0.77, worker_cc=read),
    row("2", "d[k] hit, keys of the thread's own", read, OWN_SEQUENCES, 0.29, 0.67),
    row("3", "d[k] hit, by the owner alone", read, SEQUENCES, 0.92, 0.77, threads=0, worker_cc=read),
    row("4", "d.get(k) hit", get, SEQUENCES, 0.30, 0.30),
    row("4", "d.setdefault(k, v) hit", set_default, SEQUENCES, 0.35, None),
    row("5", "d[k] = v, existing key", write, SEQUENCES, 0.30, 0.50, worker_cc=assign_cc),
    row("6", "d[k] = v, new keys", insert, NEW_KEYS, 0.40, 0.70, source={}, ops=100_000),
    row("7", "90 % reads, 10 % writes", mix, MIXED[10], 0.45, 0.83),
    row("7", "50 % reads, 50 % writes", mix, MIXED[50], 0.42, 0.76),
    count_row("10", "atomic increment, 10k keys", add_each, KEYS, SEQUENCES, 0.05, count_rivals(KEYS, SEQUENCES, 0.33)),
    count_row(
        "11",
        "atomic increment, 16 hot keys",
        add_each,
        HOT,
        HOT_SEQUENCES,
        0.13,
        count_rivals(HOT, HOT_SEQUENCES, 0.42),
    ),
    count_row(
        "12", "batch increment, 10k keys", add_many, KEYS, SEQUENCES, 0.025, reduce_rivals(KEYS, SEQUENCES, 0.57)
    ),
    count_row(
        "12", "batch increment, 16 hot keys", add_many, HOT, HOT_SEQUENCES, None, reduce_rivals(HOT, HOT_SEQUENCES, 0.5)
    ),
    count_row("13", "update_with(k, fn)", update_with, KEYS, SEQUENCES, 0.45, [], ours, update_locked, threads=0),
    count_row("13", "update_with(k, fn)", update_with, KEYS, SEQUENCES, 0.35, update_rivals(0.10), ours, update_locked),
]
