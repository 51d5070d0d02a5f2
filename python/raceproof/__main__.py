"""`python -m raceproof` and the script `raceproof`: the command line of the native module."""

import signal
import sys

from raceproof import _native


def main() -> int:
    """Runs the command line of this process; returns its exit code."""
    # The commands run detached, where a KeyboardInterrupt could not reach them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answer = _native.run_command(["raceproof", *sys.argv[1:]])
    if isinstance(answer, int):
        return answer
    verb, settings = answer
    if verb == "run":
        from raceproof.detect import _run  # only here: most verbs run no Python code

        return _run.main(**settings)
    raise AssertionError(verb)


if __name__ == "__main__":
    sys.exit(main())
