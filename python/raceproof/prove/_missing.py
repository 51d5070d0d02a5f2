"""Notes who looks for an attribute that an object does not have yet, also where the error is swallowed."""

import sys

from raceproof.instrument import _tools


class Missing:
    """Notes, while it is active, where an attribute was missed."""

    def __init__(self, name):
        self._name = name
        self.at = None

    def __enter__(self):
        monitoring, tool = sys.monitoring, _tools.kept("raceproof-missing")
        monitoring.register_callback(tool, monitoring.events.RAISE, self._raised)
        monitoring.set_events(tool, monitoring.events.RAISE)
        return self

    def __exit__(self, *error):
        sys.monitoring.set_events(_tools.kept("raceproof-missing"), 0)

    def _raised(self, code, _, error):
        if isinstance(error, AttributeError) and error.name == self._name:
            self.at = self.at or code.co_qualname
