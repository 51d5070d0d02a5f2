"""Values in words, for people who read a schedule: short, and without running code of the program."""

import types

_SIMPLE = (int, float, complex, bool, str, bytes, type(None))
_LENGTH_MAX = 40


def shown(value) -> str:
    """A value of a simple type as it is written, a container by its items if they are few and simple, anything else by
    its type."""
    kind = type(value)
    if kind in _SIMPLE:
        text = repr(value)
        return text if len(text) <= _LENGTH_MAX else text[: _LENGTH_MAX - 3] + "..."
    if kind in (tuple, list, set, frozenset, dict):
        parts = list(value.items()) if kind is dict else list(value)
        inner = [part for pair in parts for part in pair] if kind is dict else parts
        if len(parts) <= 6 and all(type(part) in _SIMPLE for part in inner):
            text = repr(value)
            if len(text) <= _LENGTH_MAX:
                return text
        return f"<{kind.__name__} of {len(parts)}>"
    return f"<{kind.__name__}>"


def loaded(owner, key, is_item):
    """What stands under a key of a built-in container, or under a name of an object or module, in words; None if that
    cannot be said without running code of the program."""
    try:
        if is_item:
            if isinstance(owner, dict):
                # Not `__getitem__`: that of a `defaultdict` would make what is missing.
                return shown(dict.get(owner, key)) if dict.__contains__(owner, key) else None
            return shown(list.__getitem__(owner, key)) if isinstance(owner, list) else None
        if isinstance(owner, types.CellType):
            return shown(owner.cell_contents)
        if type(owner) is dict:
            return shown(owner[key])
        return _attribute(owner, key)
    except (LookupError, ValueError, TypeError, AttributeError):
        return None


def _attribute(owner, name):
    for kind in type(owner).__mro__:
        found = vars(kind).get(name)
        if hasattr(type(found), "__set__"):
            if isinstance(found, types.MemberDescriptorType):
                return shown(found.__get__(owner))
            return None
    for holder in (owner, *(owner.__mro__ if isinstance(owner, type) else type(owner).__mro__)):
        values = getattr(holder, "__dict__", {})
        if name in values:
            return shown(values[name])
    return None
