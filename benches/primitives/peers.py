"""The peers, where they are installed: `pip install -r benches/primitives/peers.txt`."""

import importlib
import sys
import warnings


def peer(name):
    """The module `name`, or None where it is not installed (said on standard error)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        print(f"note: {name} is not installed; its columns are left out", file=sys.stderr)
        return None
