"""What a caller does with a result: it looks at all of it. The code of this is seen by an exploration, as the caller's
would be, so that what changes behind the back of the caller is found."""

import collections
import collections.abc

_TEXT = '''
def look_at_items(result):
    return {key: value for key, value in result.items()}


def look_at_all(result):
    return [item for item in result]


def look_at_attributes(result):
    return {name: value for name, value in vars(result).items()}
'''
_seen = {}
exec(compile(_TEXT, "<the caller>", "exec"), _seen)
_LISTS = (list, set, collections.deque, collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)


def look(result):
    """A copy of the contents of a container, or of the attributes of an object; anything else as it is."""
    if isinstance(result, dict):
        return _seen["look_at_items"](result)
    if isinstance(result, _LISTS):
        return _seen["look_at_all"](result)
    if isinstance(getattr(result, "__dict__", None), dict) and not callable(result):
        return _seen["look_at_attributes"](result)
    return result
