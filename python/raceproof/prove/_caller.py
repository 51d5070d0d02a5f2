"""What a caller does with a result: it looks at all of it. The code of this is seen by an exploration, as the caller's
would be, so that what changes behind the back of the caller is found."""

import collections
import collections.abc

_TEXT = '''
def look_at_items(result):
    return {key: value for key, value in result.items()}


def look_at_all(result):
    return [item for item in result]
'''
_seen = {}
exec(compile(_TEXT, "<the caller>", "exec"), _seen)
_LISTS = (list, set, collections.deque, collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)


def look(result):
    """A copy of the contents of a container; anything else as it is."""
    if isinstance(result, dict):
        return _seen["look_at_items"](result)
    return _seen["look_at_all"](result) if isinstance(result, _LISTS) else result
