"""The comparable form of what calls came to: the values that they returned, and the state that they left.

Objects are compared by their attributes and by who is who: two results that are one object differ from two that are
equal. Times and texts with addresses are left out, since no order of calls decides them.
"""

import collections
import datetime
import enum
import re
import types

from raceproof.instrument import _clock
from raceproof.prove import _stubs

_NODES_MAX = 5_000
_PLAIN = (str, bytes, int, bool, float, complex, type(None))
_ADDRESS = re.compile(r"0x[0-9a-f]{4,}|\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:?\d\d|Z)?)?")
_REFERENCES = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType, types.MethodDescriptorType)
_YEARS_NS = 86_400 * 365 * 2 * 10**9


class Form:
    """Makes comparable forms; one for each run, since it tells objects apart by the order in which it meets them."""

    def __init__(self):
        self._numbers = {}
        self._kept = []
        self._left = _NODES_MAX

    def of(self, value):
        """The form of a value."""
        self._left -= 1
        if self._left < 0:
            return "..."
        if isinstance(value, _PLAIN):
            return _plain(value)
        if isinstance(value, enum.Enum):
            return ("member", type(value).__qualname__, value.name)
        if isinstance(value, _REFERENCES):
            return ("name", getattr(value, "__qualname__", getattr(value, "__name__", "?")))
        if isinstance(value, types.MethodType):
            return ("method", value.__func__.__qualname__, self.of(value.__self__))
        if isinstance(value, (datetime.datetime, datetime.date, datetime.timedelta)):
            return ("time",)
        if type(value) is tuple:
            return ("tuple", *map(self.of, value))
        number = self._numbers.get(id(value))
        if number is not None:
            return ("same", number)
        number = self._numbers[id(value)] = len(self._numbers)
        # An address must not be used again while this lives.
        self._kept.append(value)
        return (_type_name(value), number, *self._parts(value))

    def _parts(self, value):
        if isinstance(value, BaseException):
            return (_ADDRESS.sub("", str(value)),)
        if isinstance(value, dict):
            items = [(self.of(key), self.of(item)) for key, item in list(dict.items(value))]
            return (*sorted(items, key=repr), *self._attributes(value))
        if isinstance(value, (set, frozenset)):
            return (*sorted((self.of(item) for item in list(value)), key=repr),)
        if isinstance(value, (list, tuple, collections.deque)):
            return (*map(self.of, list(value)), *self._attributes(value))
        if isinstance(value, (bytearray, _stubs.Stub)):
            return (repr(value),)
        return self._attributes(value)

    def _attributes(self, value):
        if type(value).__module__ in _OPAQUE:
            return ()
        found = dict(getattr(value, "__dict__", None) or {})
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                member = vars(kind).get(name)
                if isinstance(member, types.MemberDescriptorType):
                    try:
                        found[name] = member.__get__(value)
                    except AttributeError:
                        continue
        return tuple((name, self.of(item)) for name, item in sorted(found.items()))


# What stands for waiting has no state that a caller could compare.
_OPAQUE = {"threading", "_thread", "asyncio.locks", "asyncio.events", "logging", "raceproof._native", "builtins"}


def _type_name(value):
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(value):
    if isinstance(value, str):
        return _ADDRESS.sub("", value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        nanoseconds = value if value > 10**15 else value * 10**9
        if abs(nanoseconds - _clock.BEGIN_NS) < _YEARS_NS * 10:
            return ("time",)
    return (type(value).__name__, value)
