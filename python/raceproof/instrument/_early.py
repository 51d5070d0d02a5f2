"""Locks, and names of what makes them, that were there before the exploration: where operands are not replaced, what
holds them is changed instead, and changed back afterwards.

Looked through is what hangs together with the modules of the program, with its functions and with the scenario: dicts,
attributes, lists, variables of closures and default values. A lock that lies elsewhere, as in a tuple, stays what it
is; it is noticed when it is taken.
"""

import sys
import types
from collections import deque

from raceproof.instrument import _places

_OBJECTS_MAX = 200_000
# Of the library, objects of these modules hold locks for the program; the others see to theirs.
_LIBRARY = {"threading", "queue", "functools", "collections", "concurrent", "weakref", "sched", "types", "builtins"}
# Modules of the library that keep locks of their own and whose code is seen.
_LIBRARY_MODULES = {
    "collections",
    "concurrent.futures.thread",
    "concurrent.futures._base",
    "functools",
    "weakref",
    "sched",
}
_IMMUTABLE = (str, bytes, int, float, complex, type(None), types.CodeType, range)


class Early:
    """Replaces what `stand_in_of(object)` gives something for, which is None for all else."""

    def __init__(self, stand_in_of):
        self._stand_in_of = stand_in_of
        self._undo = []

    def replace(self, callables):
        """Replaces what can be reached from the modules of the program and from these."""
        seen, work = set(), deque()
        work.extend(callables)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str):
                continue
            if _places.place(file)[0] in ("own", "package") or name in _LIBRARY_MODULES:
                work.append(vars(module))
        while work and len(seen) < _OBJECTS_MAX:
            thing = work.popleft()
            if id(thing) in seen or isinstance(thing, _IMMUTABLE):
                continue
            seen.add(id(thing))
            try:
                self._look_into(thing, work)
            except Exception:
                # An object that cannot be looked into stays as it is.
                continue

    def put_back(self):
        """What was there before is there again, unless the program has put something else there."""
        while self._undo:
            self._undo.pop()()

    def _look_into(self, thing, work):
        match thing:
            case dict():
                self._slots(thing, list(dict.items(thing)), dict.__setitem__, dict.get, work)
            case list():
                self._slots(thing, list(enumerate(thing)), list.__setitem__, _item, work)
            case tuple():
                work.extend(thing)
            case types.FunctionType():
                # What stands in calls what it stands for.
                if _places.place(thing.__code__.co_filename)[0] != "raceproof":
                    self._function(thing, work)
            case types.MethodType():
                work.extend((thing.__self__, thing.__func__))
            case type():
                self._class(thing, work)
            case types.ModuleType():
                pass
            case _:
                self._object(thing, work)

    def _slots(self, holder, items, put, get, work):
        for key, value in items:
            stand_in = self._stand_in_of(value)
            if stand_in is None:
                work.append(value)
                continue
            put(holder, key, stand_in)
            self._undo.append(lambda key=key, value=value, new=stand_in: _back(holder, key, value, new, put, get))

    def _function(self, function, work):
        work.extend((function.__defaults__, function.__kwdefaults__, function.__dict__))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            self._slots(cell, [("cell_contents", value)], setattr, getattr, work)
        if any(self._stand_in_of(value) is not None for value in function.__defaults__ or ()):
            before = function.__defaults__
            function.__defaults__ = tuple(
                value if (new := self._stand_in_of(value)) is None else new for value in before
            )
            self._undo.append(lambda: setattr(function, "__defaults__", before))

    def _class(self, kind, work):
        if _is_library(kind):
            return
        work.extend(kind.__bases__)
        self._slots(kind, list(vars(kind).items()), type.__setattr__, _class_item, work)

    def _object(self, thing, work):
        kind = type(thing)
        if _is_library(kind) and kind.__module__.partition(".")[0] not in _LIBRARY:
            return
        if isinstance(thing, (property, staticmethod, classmethod)):
            work.extend(getattr(thing, name, None) for name in ("fget", "fset", "fdel", "__func__"))
            return
        if kind.__dictoffset__:
            try:
                values = object.__getattribute__(thing, "__dict__")
            except AttributeError:
                values = None
            if type(values) is dict:
                work.append(values)
        for base in kind.__mro__:
            for member in vars(base).values():
                if isinstance(member, types.MemberDescriptorType) and base.__flags__ & (1 << 9):
                    self._member(thing, member, work)
        if not _is_library(kind):
            work.append(kind)

    def _member(self, thing, member, work):
        try:
            value = member.__get__(thing)
        except AttributeError:
            return
        name = member.__name__
        self._slots(thing, [(name, value)], lambda it, _, new: member.__set__(it, new), _member_of(member), work)


def _is_library(kind):
    return kind.__module__.partition(".")[0] in sys.stdlib_module_names


def _item(values, key):
    return values[key] if key < len(values) else None


def _class_item(kind, key):
    return vars(kind).get(key)


def _member_of(member):
    return lambda thing, _: member.__get__(thing)


def _back(holder, key, value, new, put, get):
    try:
        if get(holder, key) is new:
            put(holder, key, value)
    except (AttributeError, ValueError, TypeError):
        pass
