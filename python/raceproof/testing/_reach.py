"""The state that a callable reaches: globals that its code names, attributes of classes and objects, what containers
hold. It can be put back to what it was, so that a getter can make its instance for the first time again and again.

It follows code of the project and of the few modules of the library that hold state for others; what C code keeps to
itself cannot be put back.
"""

import collections
import dis
import functools
import sys
import types

from raceproof.instrument import INSTRUMENT, _places, is_seen

_OBJECTS_MAX = 5_000
_ABSENT = object()
_STATEFUL_MODULES = {"queue", "threading", "asyncio.locks", "asyncio.queues", "collections", "types", "weakref"}
_CONTAINERS = (list, dict, set, collections.deque, bytearray)
_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)
# Parts of raceproof that never make anybody wait, and the locks that exploration stands in for.
_NEVER_WAIT = {
    "ABSENT", "AtomicInt", "AtomicReference", "ConcurrentMap", "CounterMap", "Lock", "RLock", "StripedCounter",
    "ThreadLocal", "ThreadSafeDict", "ThreadSafeList", "ThreadSafeSet",
}  # fmt: skip


class Reach:
    """What `callables` reach, as it is now."""

    def __init__(self, *callables):
        self.restorers = []
        # What can be replaced: (dict or object, key, is it an attribute).
        self.slots = []
        # Parts of raceproof that make threads wait in native code.
        self.waits_natively = False
        self._seen = {}
        self._known = set()
        self._work = list(callables)
        while self._work and len(self._seen) < _OBJECTS_MAX:
            self._visit(self._work.pop())

    def restore(self):
        """Puts everything back."""
        for restore in self.restorers:
            restore()

    def values(self):
        """What stands in the slots now, in an order that is always the same: functions and modules left out."""
        found = []
        for holder, key, is_attribute in self.slots:
            value = _read(holder, key, is_attribute)
            if not isinstance(value, (*_METHODS, types.ModuleType, type)):
                found.append((key, None if value is _ABSENT else value))
        return found

    def held(self, value):
        """Was the value there when this was made?"""
        return id(value) in self._seen

    def forget(self, value):
        """Takes the value out of the slots in which it stands, puts None there; how many there were. `restore` of this
        reach puts it back."""
        n = 0
        for holder, key, is_attribute in self.slots:
            if _read(holder, key, is_attribute) is value:
                _write(holder, key, is_attribute, None)
                n += 1
        for container in [it for it in self._seen.values() if type(it) is dict]:
            for key in [key for key, held in container.items() if held is value]:
                del container[key]
                n += 1
        return n

    def _visit(self, value):
        if id(value) in self._seen or isinstance(value, (str, bytes, int, float, bool, type(None))):
            return
        self._seen[id(value)] = value
        if isinstance(value, types.FunctionType):
            self._visit_function(value)
        elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
            if not isinstance(value.__self__, types.ModuleType):
                self._work += (value.__self__, getattr(value, "__func__", None))
        elif isinstance(value, functools.partial):
            self._work += (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, (staticmethod, classmethod)):
            self._work.append(value.__func__)
        elif isinstance(value, property):
            self._work += (value.fget, value.fset)
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, tuple):
            self._work += value
        elif not isinstance(value, types.ModuleType):
            self._visit_object(value)

    def _visit_function(self, function):
        self._work += (*(function.__defaults__ or ()), getattr(function, "__wrapped__", None))
        if not is_seen(function.__code__):
            return
        space = function.__globals__
        names, stored = _names(function.__code__)
        for name in sorted(names):
            value = space.get(name, _ABSENT)
            if value is _ABSENT and name not in stored:
                continue
            if name in stored or not isinstance(value, types.ModuleType):
                self._slot(space, name, False)
            if isinstance(value, types.ModuleType) and _is_ours(value):
                for part in sorted(names & vars(value).keys()):
                    self._slot(vars(value), part, False)
        for cell in function.__closure__ or ():
            self._slot(cell, "cell_contents", True)

    def _slot(self, holder, key, is_attribute):
        value = _read(holder, key, is_attribute)
        if (id(holder), key) not in self._known:
            self._known.add((id(holder), key))
            self.slots.append((holder, key, is_attribute))
            self.restorers.append(functools.partial(_put_back, holder, key, is_attribute, value))
        self._work.append(value)

    def _visit_class(self, class_):
        module = class_.__module__
        if module.partition(".")[0] == "raceproof":
            self.waits_natively = self.waits_natively or class_.__name__ not in _NEVER_WAIT
        if not _is_own(class_):
            return
        self._work += class_.__mro__[1:-1]
        for name, value in list(vars(class_).items()):
            is_data = not (name.startswith("__") and name.endswith("__")) and not isinstance(value, _METHODS)
            if is_data and not hasattr(type(value), "__set__"):
                self._slot(class_, name, True)
            elif isinstance(value, _METHODS):
                self._work.append(getattr(value, "func", value))
        before = set(vars(class_))
        self.restorers.append(lambda: [delattr(class_, name) for name in set(vars(class_)) - before])

    def _visit_object(self, value):
        kind = type(value)
        if kind.__module__.partition(".")[0] == "raceproof":
            self._visit_part(value)
            return
        if hasattr(value, "cache_clear") and hasattr(value, "__wrapped__"):
            self.restorers.append(value.cache_clear)
            self._work.append(value.__wrapped__)
            return
        if isinstance(value, _CONTAINERS):
            self._visit_container(value)
        if not _is_own(kind) and kind.__module__ not in _STATEFUL_MODULES:
            return
        self._work.append(kind)
        named = getattr(value, "__dict__", None)
        if type(named) is dict:
            for name in list(named):
                self._slot(named, name, False)
            before = set(named)
            self.restorers.append(lambda: [named.pop(name, None) for name in set(named) - before])
        for base in kind.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType) and "__slots__" in vars(base):
                    self._slot(value, name, True)

    def _visit_container(self, value):
        held = value.copy()
        self.restorers.append(functools.partial(_refill, value, held))
        if isinstance(value, dict):
            self._work += value.keys()
            self._work += value.values()
        elif not isinstance(value, bytearray):
            self._work += value

    def _visit_part(self, value):
        """A part of raceproof: what can be asked of it is put back."""
        self._visit_class(type(value))
        if hasattr(value, "reset"):
            # What was made before cannot be put back, so it is left alone.
            if not getattr(getattr(value, "lazy", value), "is_set", True):
                self.restorers.append(value.reset)
        elif hasattr(value, "compare_and_set") and hasattr(value, "set"):
            self.restorers.append(functools.partial(value.set, value.get()))
        elif hasattr(value, "clear") and hasattr(value, "update"):
            held = dict(value.items()) if hasattr(value, "items") else set(value)
            self.restorers.append(lambda: (value.clear(), value.update(held)))
        elif hasattr(value, "clear") and hasattr(value, "extend"):
            items = list(value)
            self.restorers.append(lambda: (value.clear(), value.extend(items)))


def _names(code):
    """The names of globals and attributes in a code object and those within, and the globals that it stores."""
    names, stored, work = set(), set(), [code]
    while work:
        code = work.pop()
        names |= set(code.co_names)
        stored |= {it.argval for it in dis.get_instructions(code) if it.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")}
        work += [it for it in code.co_consts if isinstance(it, types.CodeType)]
    return names, stored


def _is_ours(module):
    file = getattr(module, "__file__", None) or "<frozen"
    return _places.place(file)[0] in ("own", "raceproof")


def _is_own(class_):
    """Is the class of code that is seen, rather than of the library?"""
    module = sys.modules.get(class_.__module__)
    if class_.__module__ == "__main__":
        return True
    return module is not None and _is_ours(module) and class_.__module__.partition(".")[0] != "raceproof"


def _read(holder, key, is_attribute):
    if not is_attribute:
        return holder.get(key, _ABSENT)
    if isinstance(holder, type):
        return vars(holder).get(key, _ABSENT)
    try:
        return getattr(holder, key)
    except (AttributeError, ValueError):
        return _ABSENT


def _write(holder, key, is_attribute, value):
    if is_attribute:
        setattr(holder, key, value)
    else:
        holder[key] = value


def _put_back(holder, key, is_attribute, value):
    now = _read(holder, key, is_attribute)
    # In an exploration something else may stand there for a lock.
    value = INSTRUMENT.instead_of(value)
    if now is value:
        return
    if value is not _ABSENT:
        _write(holder, key, is_attribute, value)
    elif is_attribute:
        delattr(holder, key)
    else:
        del holder[key]


def _refill(container, held):
    is_same = len(container) == len(held) and all(a is b for a, b in zip(container, held, strict=True))
    if is_same and isinstance(container, dict):
        is_same = all(container[key] is held[key] for key in held)
    if is_same:
        return
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(held)
    else:
        container.extend(held)
