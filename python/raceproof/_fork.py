"""Tells the native module when it runs in a forked child."""

import os

from raceproof import _native

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.after_fork_in_child)
