"""Values as they can be compared and hashed: what an object holds, and which of its parts are the same object."""

import collections
import types

from raceproof.instrument import _known

_DEPTH_MAX = 200
_KNOWN_BY_NAME = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
_OPAQUE = (types.GeneratorType, types.CoroutineType)
_VALUES = tuple(kind for kind in _known._IMMUTABLE if kind not in (tuple, frozenset, *_KNOWN_BY_NAME, *_OPAQUE))


def frozen(*values):
    """The values together, without their addresses: equal for equal contents, if the same parts are shared.

    Built-in containers and objects with attributes are looked into. A lock, a thread or any other object of C code
    counts by its type.
    """
    seen = {}
    return tuple(_frozen(value, seen, 0) for value in values)


def _frozen(value, seen, depth):
    kind = type(value)
    if isinstance(value, _VALUES):
        # A number that is not itself (nan) would never be found again.
        return kind.__name__, value if value == value else repr(value)
    if isinstance(value, _KNOWN_BY_NAME):
        return kind.__name__, getattr(value, "__qualname__", getattr(value, "__name__", ""))
    if depth > _DEPTH_MAX:
        return ("deeper",)
    if isinstance(value, tuple):
        return kind.__name__, *(_frozen(part, seen, depth + 1) for part in value)
    number = seen.get(id(value))
    if number is not None:
        return "the same as", number[0]
    seen[id(value)] = (len(seen), value)
    parts = _parts(value, kind)
    return f"{kind.__module__}.{kind.__qualname__}", *(_frozen(part, seen, depth + 1) for part in parts)


def _parts(value, kind):
    parts = []
    if isinstance(value, (list, collections.deque)):
        parts += value
    elif isinstance(value, (set, frozenset)):
        parts += sorted(value, key=_order)
    elif isinstance(value, dict):
        for key in sorted(value, key=_order):
            parts += (key, value[key])
    elif isinstance(value, (bytearray, memoryview)):
        parts.append(bytes(value))
    elif isinstance(value, BaseException):
        parts += value.args
    elif kind.__module__.partition(".")[0] == "raceproof":
        parts += _of_ours(value)
    return [*parts, *_attributes(value, kind)]


def _of_ours(value):
    """What is in a container or a counter of raceproof."""
    if hasattr(value, "items") and hasattr(value, "keys"):
        pairs = sorted(value.items(), key=lambda pair: _order(pair[0]))
        return [part for pair in pairs for part in pair]
    if hasattr(value, "__iter__"):
        return list(value)
    return [int(value)] if hasattr(value, "__int__") else []


def _attributes(value, kind):
    named = dict(getattr(value, "__dict__", {}))
    for base in kind.__mro__:
        for name, member in vars(base).items():
            # What stands in slots; not what a type of C code has.
            if isinstance(member, types.MemberDescriptorType) and "__slots__" in vars(base):
                try:
                    named[name] = member.__get__(value)
                except AttributeError:
                    continue
    for name in sorted(named):
        yield name
        yield named[name]


def _order(key):
    """An order of keys that does not depend on addresses where the keys are plain values."""
    return type(key).__name__, repr(key) if isinstance(key, (*_VALUES, tuple)) else ""
