"""What the child of a fork starts with: objects whose native part another thread may have been in the middle of are
made anew, and singletons stay the same objects. The store rests while the process forks."""

import os
import weakref

from raceproof.monitor import _store

_renewed = weakref.WeakSet()


def renew_after_fork(class_):
    """Calls `_renew` of each object of the class in the child of a fork."""
    made = class_.__init__

    def __init__(self, *args, **kwargs):
        made(self, *args, **kwargs)
        _renewed.add(self)

    __init__.__doc__, __init__.__wrapped__ = made.__doc__, made
    class_.__init__ = __init__
    return class_


def _after_fork_in_child():
    _store.after_fork_in_child()
    for renewed in list(_renewed):
        renewed._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_store.before_fork,
        after_in_parent=_store.after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
