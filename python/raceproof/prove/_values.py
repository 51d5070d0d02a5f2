"""Makes the values that a scenario needs: arguments, and the objects whose methods are called.

From a default, else from an annotation, else from the name. Two calls get equal arguments, or different ones, as the
scenario asks; the same scenario gets the same values in each run.
"""

import asyncio
import collections.abc
import dataclasses
import datetime
import enum
import inspect
import types
import typing
import uuid
from pathlib import Path

from raceproof.prove import _stubs

_DEPTH_MAX = 4
_EMPTY = inspect.Parameter.empty
_PLAIN = {
    str: lambda n: "abc"[n % 3],
    bool: lambda n: True,
    bytes: lambda n: b"abc"[n % 3 : n % 3 + 1],
    complex: lambda n: complex(n + 1),
    list: lambda n: [],
    dict: lambda n: {},
    set: lambda n: set(),
    frozenset: lambda n: frozenset(),
    tuple: lambda n: (n + 1,),
    object: lambda n: n + 1,
    Path: lambda n: Path(f"/nowhere/{n}"),
    uuid.UUID: lambda n: uuid.UUID(int=n + 1),
    datetime.datetime: lambda n: datetime.datetime(2024, 1, n + 1),
    datetime.date: lambda n: datetime.date(2024, 1, n + 1),
    datetime.timedelta: lambda n: datetime.timedelta(seconds=n + 1),
    type(None): lambda n: None,
}
_ABSTRACT = {
    collections.abc.Iterable: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_NUMBERS = (
    "interval",
    "delay",
    "period",
    "duration",
    "count",
    "size",
    "limit",
    "seconds",
    "timeout",
    "value",
    "amount",
    "number",
    "n_",
    "max",
    "min",
    "port",
)


class CannotBuild(Exception):
    """A value cannot be made, and why."""


class Builder:
    """Makes values for one scenario. `n` tells those that differ apart."""

    def __init__(self, n=0, added=0, known=lambda kind: None):
        self.n = n
        self.added = added
        # `known(kind)` is an object of a class that there is already, or None.
        self._known = known

    def call(self, function, given=None):
        """Calls it with arguments of our own."""
        arguments, named = self.arguments(function, given or {})
        return function(*arguments, **named)

    def arguments(self, function, given, depth=0):
        """`(positional, by name)` for what has no default, or a default that stands for something else."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (ValueError, TypeError) as cause:
            raise CannotBuild(f"the parameters of `{_name(function)}` are not known: {cause}") from None
        hints = _hints(function)
        positional, named = [], {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.name in given:
                value = given[parameter.name]
            elif _is_dependency(parameter.default):
                value = self.call(parameter.default._arguments[0])
            elif parameter.default is not _EMPTY:
                continue
            else:
                value = self.value(hints.get(parameter.name, _EMPTY), parameter.name, depth + 1)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named

    def value(self, kind, name="", depth=0):
        """A value for an annotation, or for a name where there is none."""
        if depth > _DEPTH_MAX:
            raise CannotBuild(f"the value for `{name}` needs values that need values, too deep")
        if kind is _EMPTY or kind is typing.Any or isinstance(kind, (str, typing.TypeVar, _stubs.Stub)):
            return self._by_name(name)
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self.value(inner[0], name, depth)
        if origin is typing.Literal:
            return inner[self.n % len(inner)]
        if origin in (typing.Union, types.UnionType):
            return self.value(next(it for it in inner if it is not type(None)), name, depth)
        if origin is collections.abc.Callable or kind is collections.abc.Callable:
            return _nothing
        return self._of_class(origin or kind, inner, name, depth)

    def _of_class(self, kind, inner, name, depth):
        kind = _ABSTRACT.get(kind, kind)
        if kind is list and inner:
            return [self.value(inner[0], name, depth + 1)]
        if kind is tuple and inner:
            return tuple(self.value(it, name, depth + 1) for it in inner if it is not Ellipsis)
        if kind in (int, float):
            return kind(self.n + 1 + self.added)
        if kind in _PLAIN:
            return _PLAIN[kind](self.n)
        if not isinstance(kind, type):
            return self._by_name(name)
        if issubclass(kind, enum.Enum):
            members = list(kind)
            return members[self.n % len(members)]
        if issubclass(kind, BaseException):
            return kind("a")
        return self.instance(kind, depth)

    def instance(self, kind, depth=0):
        """An object of a class of the program."""
        known = self._known(kind)
        if known is not None:
            return known
        if inspect.isabstract(kind) or getattr(kind, "_is_protocol", False):
            kind = self._concrete(kind)
        required = {}
        if dataclasses.is_dataclass(kind) or "__init__" in vars(kind) or not issubclass(kind, _stubs.StubClass):
            positional, required = self.arguments(kind, {}, depth)
        else:
            positional, required = [], {key: self.value(hint, key, depth + 1) for key, hint in _hints(kind).items()}
        try:
            return kind(*positional, **required)
        except (TypeError, ValueError, OSError, RuntimeError, LookupError, AttributeError) as cause:
            made = _with_hypothesis(kind)
            if made is not None:
                return made
            raise CannotBuild(f"`{kind.__qualname__}` cannot be made: {type(cause).__name__}: {cause}") from None

    def _concrete(self, kind):
        for other in kind.__subclasses__():
            if not inspect.isabstract(other) and not getattr(other, "_is_protocol", False):
                return other
        # Nothing implements it: its abstract methods do nothing.
        names = kind.__abstractmethods__ if inspect.isabstract(kind) else _public_methods(kind)
        stands_for = {True: _nothing_async, False: _nothing}
        methods = {name: stands_for[inspect.iscoroutinefunction(getattr(kind, name))] for name in names}
        return type(kind.__name__, (kind,), methods)

    def _by_name(self, name):
        if any(part in name for part in _NUMBERS):
            return self.n + 1 + self.added
        if name.startswith(("is_", "has_")):
            return True
        if name in ("pairs", "items"):
            return [("abc"[self.n % 3], self.n + 1)]
        if name in ("callback", "function", "func", "fn", "handler", "listener", "loader", "load", "factory"):
            return _nothing
        return "abc"[self.n % 3]


def _nothing(*arguments, **named_arguments):
    """What stands for a callable."""


async def _nothing_async(*arguments, **named_arguments):
    """What stands for a coroutine function: others get their turn."""
    await asyncio.sleep(0)


def _public_methods(kind):
    return [name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")]


def _is_dependency(default):
    return isinstance(default, _stubs.Stub) and bool(default._arguments) and callable(default._arguments[0])


def _hints(function):
    """Annotations, those that cannot be evaluated left as they stand."""
    target = function.__init__ if isinstance(function, type) and not dataclasses.is_dataclass(function) else function
    try:
        return typing.get_type_hints(target)
    except Exception:
        return dict(getattr(target, "__annotations__", {}))


def _with_hypothesis(kind):
    """The simplest example that `hypothesis` finds, if it is installed and finds one."""
    try:
        import hypothesis
        from hypothesis import strategies
    except ImportError:
        return None
    try:
        return hypothesis.find(strategies.from_type(kind), lambda _: True)
    except Exception:
        return None


def _name(function):
    return getattr(function, "__qualname__", repr(function))
