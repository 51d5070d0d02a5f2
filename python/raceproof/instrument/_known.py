"""What built-in functions and methods do, as one step each: the table that the native observer is given.

What is not named here is taken to change its object if it is a method, and to read its arguments if it is a function.
"""

import _thread
import array
import builtins
import collections
import concurrent.futures
import datetime
import decimal
import fractions
import functools
import gc
import itertools
import math
import re
import types
import uuid

from raceproof._native import control
from raceproof.instrument import _clock, _locks, _loop

_LOCKS = (control.Lock, control.RLock, control.Condition, _locks.Lock, _locks.RLock, _locks.Condition)
_READ_ALL = {
    list: "copy count index __len__ __iter__ __contains__ __reversed__",
    dict: "copy keys values items __len__ __iter__ __reversed__ fromkeys",
    set: "copy issubset issuperset isdisjoint union intersection difference symmetric_difference __len__ __iter__",
    collections.deque: "copy count index __len__ __iter__ __reversed__",
    bytearray: "find count index copy decode startswith endswith hex __len__ __iter__",
}
_READ_KEY = {dict: "get __getitem__ __contains__", list: "__getitem__", set: "__contains__"}
_UPDATE_KEY = {dict: "setdefault pop __setitem__ __delitem__", set: "add discard remove"}
_PUT = {list: "append insert", collections.deque: "append appendleft"}
STEPWISE = (sum, min, max, any, all)
_READERS = (len, sorted, iter, repr, format, ascii, bin, chr, ord, divmod, pow, math.fsum, math.prod, functools.reduce)
_NEUTRAL = "isinstance issubclass id callable super dir globals locals hash type print input open abs round".split()
# Every class has them; what they do to a container that nobody else knows yet, no other thread can see.
_OF_NO_CONTAINER = "__init__ __hash__ __repr__ __str__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__".split()
_IMMUTABLE = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    tuple,
    frozenset,
    range,
    slice,
    type(None),
    re.Pattern,
    re.Match,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    types.MappingProxyType,
    types.GeneratorType,
    types.CoroutineType,
    types.ModuleType,
    types.MethodType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    type,
)


# They are steps of their own.
_SYNCHRONISE = {
    control.Lock: "acquire release locked __enter__ __exit__",
    control.RLock: "acquire release locked __enter__ __exit__ _is_owned _release_save _acquire_restore",
    control.Condition: "acquire release wait notify notify_all __enter__ __exit__",
}
_OF_CONTROL = (control.seat, control.is_iteration_atomic, control.spawn, control.join)
# What these give is no container, or a new one.
_PLAIN_FUNCTIONS = (
    len,
    isinstance,
    issubclass,
    id,
    callable,
    hash,
    print,
    repr,
    format,
    ascii,
    bin,
    chr,
    ord,
    hex,
    oct,
    sorted,
    any,
    all,
    sum,
    hasattr,
    setattr,
    delattr,
    dir,
)
_PLAIN_METHODS = {
    list: "append extend insert remove clear sort reverse index count copy __len__ __contains__",
    dict: "clear update copy fromkeys __len__ __contains__",
    set: "add discard remove clear update copy union intersection difference symmetric_difference issubset issuperset "
    "isdisjoint __len__ __contains__",
    collections.deque: "append appendleft extend extendleft clear copy count index remove reverse rotate __len__",
    **_SYNCHRONISE,
}


def _plain():
    yield from _PLAIN_FUNCTIONS
    yield from _OF_CONTROL
    yield from _clock.CLOCKS.values()
    yield concurrent.futures.ThreadPoolExecutor._counter
    for kind, names in _PLAIN_METHODS.items():
        yield from (found for name in names.split() if (found := getattr(kind, name, None)) is not None)
    for kind in (str, bytes, int, float):
        yield from (it for it in vars(kind).values() if isinstance(it, types.MethodDescriptorType))


def _calls():
    for table, word in ((_READ_ALL, "read all"), (_READ_KEY, "read key"), (_UPDATE_KEY, "update key"), (_PUT, "put")):
        for kind, names in table.items():
            for name in names.split():
                method = getattr(kind, name, None)
                if isinstance(method, (types.MethodDescriptorType, types.WrapperDescriptorType)):
                    yield method, word
    for kind, names in _SYNCHRONISE.items():
        for name in names.split():
            if (method := getattr(kind, name, None)) is not None:
                yield method, "ignore"
    for function in _OF_CONTROL:
        yield function, "ignore"
    for name in _OF_NO_CONTAINER:
        yield getattr(object, name), "ignore"
    yield type.__call__, "ignore"
    for function in STEPWISE:
        yield function, "stepwise"
    for name in _NEUTRAL:
        function = getattr(builtins, name)
        if isinstance(function, types.BuiltinFunctionType):
            yield function, "ignore"
    for function in _READERS:
        yield function, "read arguments"
    yield vars, "dict"
    yield next, "next"
    yield object.__getattribute__, "get attribute"
    yield object.__setattr__, "set attribute"
    yield object.__delattr__, "set attribute"
    yield getattr, "get attribute"
    yield hasattr, "get attribute"
    yield setattr, "set attribute"
    yield delattr, "set attribute"


def _over():
    """Iterators and views, how far behind the header they keep what they go over, and what that is."""
    items, table, members = [1], {1: 2}, {1}
    queue = collections.deque(items)
    inner = iter(items)
    yield iter(items), 8, items
    yield reversed(items), 8, items
    yield iter(table), 0, table
    yield iter(table.values()), 0, table
    yield iter(table.items()), 0, table
    for view in (table.keys(), table.values(), table.items()):
        yield view, 0, table
    yield iter(members), 0, members
    yield iter(queue), 16, queue
    yield enumerate(inner), 8, inner
    ordered = collections.OrderedDict(table)
    for iterator in (iter(ordered), reversed(ordered), iter(ordered.items())):
        yield iterator, 8, ordered
    for view in (ordered.keys(), ordered.values(), ordered.items()):
        yield view, 0, ordered
    yield reversed(table), 0, table
    yield from _over_iterators(inner)


def _over_iterators(inner):
    """Iterators over other iterators; those over several keep a tuple of them."""
    for iterator, offset in (
        (zip(inner, inner, strict=False), 8),
        (map(max, inner, inner), 0),
        (itertools.zip_longest(inner, inner), 16),
    ):
        yield iterator, offset, next(it for it in gc.get_referents(iterator) if type(it) is tuple)
    yield filter(None, inner), 8, inner
    for kind in (itertools.takewhile, itertools.dropwhile, itertools.filterfalse, itertools.starmap):
        yield kind(max, inner), 8, inner
    yield itertools.accumulate(inner), 8, inner
    yield itertools.islice(inner, 1), 0, inner
    yield itertools.pairwise(inner), 0, inner
    yield itertools.groupby(inner), 0, inner


class _Class:
    def __call__(self):
        """Nothing."""

    def __del__(self):
        """Nothing."""


def known(stand_ins, stand_in_types, is_portable=False):
    """The table. With `is_portable` nothing stands on the layout of objects."""
    return {
        "calls": [(callable_, word) for callable_, word in _calls()],
        "stand_ins": list(stand_ins),
        "stand_in_types": list(stand_in_types),
        "immutable": [*_IMMUTABLE, functools.partial, *_LOCKS],
        "locals": [_thread._local],
        "python_class": _Class(),
        "containers": [collections.deque, array.array],
        "defaultdict": collections.defaultdict,
        "method_wrapper": types.MethodWrapperType,
        "event_loop": _loop.ControlledLoop,
        "over": list(_over()),
        "plain": list(_plain()),
        "is_portable": is_portable,
    }
