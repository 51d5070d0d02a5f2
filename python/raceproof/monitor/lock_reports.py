"""What the locks of this package tell of themselves: `raceproof.lock_report`."""

from raceproof import _native
from raceproof.monitor import watch
from raceproof.monitor.sources import Source


class LockReports:
    """Switches timing and order watch on and off, and reads their report once for each sample."""

    def __init__(self):
        self.source = Source("lock", self._read)
        self._seen = set()
        self._inversions = []
        self._was_off = []

    def switch_on(self):
        """Switches on what is off; a reaction to inversions that the program has chosen stays."""
        report = _native.lock_report()
        if not report["timing"]:
            _native.time_locks(True)
            self._was_off.append(_native.time_locks)
        if not report["watching"]:
            _native.watch_locks(True)
            self._was_off.append(_native.watch_locks)

    def switch_off(self):
        """Switches off what `switch_on` has switched on."""
        while self._was_off:
            self._was_off.pop()(False)

    def raise_inversions(self):
        """Makes an incident of each inversion of the latest report that was not there before."""
        for inversion in self._inversions:
            key = (tuple(inversion["locks"]), tuple(inversion["threads"]))
            if key not in self._seen:
                self._seen.add(key)
                first, second = inversion["locks"][0], inversion["locks"][-1]
                context = {name: inversion[name] for name in ("message", "threads", "stacks")}
                watch.report_lock_inversion(first, second, context)

    def _read(self):
        report = _native.lock_report()
        # What was found before somebody switched it off says nothing of now.
        self._inversions = report["inversions"] if report["watching"] else []
        rows = []
        for lock in report["locks"] if report["timing"] else ():
            row = {"name": lock["name"], "hold_max_s": lock["hold"]["max"]}
            for part in ("wait", "hold"):
                row |= {f"{part}_p50_s": lock[part]["p50"], f"{part}_p99_s": lock[part]["p99"]}
            rows.append(row)
        return rows
