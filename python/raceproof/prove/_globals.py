"""Puts the globals of modules back to what they were: names, attributes of classes, and the contents of all built-in
containers and plain objects that they lead to, in place."""

import collections
import functools
import types

from raceproof.prove import _stubs

_CONTAINERS = (dict, list, set, collections.deque, bytearray)
_LEAVES = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    types.CodeType,
    _stubs.Stub,
)
_OBJECTS_MAX = 100_000


class Globals:
    """What the globals of some modules, and some values besides, were when this was made."""

    def __init__(self, modules, values=()):
        self._kept = []
        self._caches = []
        self.is_whole = True
        self._seen = set()
        names = {module.__name__ for module in modules}
        todo = list(values)
        for module in modules:
            values = vars(module)
            self._kept.append((values, dict(values)))
            todo.extend(value for name, value in values.items() if not name.startswith("__"))
        while todo:
            if len(self._seen) > _OBJECTS_MAX:
                self.is_whole = False
                return
            self._keep(todo.pop(), names, todo)

    def _keep(self, value, names, todo):
        if isinstance(value, functools._lru_cache_wrapper):
            self._caches.append(value)
        if isinstance(value, _LEAVES) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, type):
            if value.__module__ in names and not issubclass(value, _stubs.StubClass):
                self._kept.append((value, dict(vars(value))))
                todo.extend(vars(value).values())
        elif isinstance(value, _CONTAINERS):
            kept = value.copy()
            self._kept.append((value, kept))
            todo.extend([*kept.keys(), *kept.values()] if isinstance(kept, dict) else kept)
        elif isinstance(value, (tuple, frozenset)):
            todo.extend(value)
        if isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, type):
            self._kept.append((value.__dict__, dict(value.__dict__)))
            todo.extend(value.__dict__.values())
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                todo.append(getattr(value, name, None))

    def restore(self):
        """Puts all of it back."""
        for target, kept in self._kept:
            if isinstance(target, type):
                _restore_class(target, kept)
            elif isinstance(target, dict):
                if list(target.items()) != list(kept.items()) or type(target) is not dict:
                    dict.clear(target)
                    dict.update(target, kept)
            elif isinstance(target, set):
                set.clear(target)
                set.update(target, kept)
            elif isinstance(target, list):
                list.__setitem__(target, slice(None), kept)
            elif isinstance(target, collections.deque):
                target.clear()
                target.extend(kept)
            else:
                target[:] = kept
        for cache in self._caches:
            cache.cache_clear()


def _restore_class(kind, kept):
    now = vars(kind)
    for name in [name for name in now if name not in kept]:
        type.__delattr__(kind, name)
    for name, value in kept.items():
        if now.get(name) is not value and name not in ("__dict__", "__weakref__"):
            type.__setattr__(kind, name, value)
