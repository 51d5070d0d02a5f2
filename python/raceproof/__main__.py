"""`python -m raceproof` and the script `raceproof`: the command line of the native module."""

import os
import signal
import sys

from raceproof import _native


def main() -> int:
    """Runs the command line of this process; returns its exit code."""
    # The commands run detached, where a KeyboardInterrupt could not reach them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What runs the code of the user, unless another is named.
    os.environ.setdefault("RACEPROOF_PYTHON", sys.executable)
    answer = _native.run_command(["raceproof", *sys.argv[1:]])
    if isinstance(answer, int):
        return answer
    if answer[0] == "run":
        from raceproof.detect import _run  # only here, as below: most verbs run no Python code

        return _run.main(**answer[1])
    from raceproof import runner

    return runner.run(*answer)


if __name__ == "__main__":
    sys.exit(main())
