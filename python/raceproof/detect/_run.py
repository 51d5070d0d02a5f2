"""`raceproof run`: a script or a module under the race detector."""

import io
import os
import signal
import sys
import threading
import types

from raceproof.detect._detector import Detector


def main(target, arguments, is_module, format, output, confidence):
    """Runs the program as Python would, then tells what was found. The exit code is 1 if something was, 2 if the
    program cannot be run, and else that of the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    detector = Detector()
    try:
        code, path, package = _load(target, arguments, is_module)
        detector.start()
    except (OSError, ImportError, SyntaxError, RuntimeError) as cause:
        print(f"error: cannot run `{target}`: {cause}", file=sys.stderr)
        return 2
    pid = os.getpid()
    status = _execute(code, path, package)
    if os.getpid() != pid:
        return status
    report = detector.stop()
    _flush()
    text = report.render(format, output is None and format == "text" and _has_colour(), confidence)
    if output is None:
        sys.stderr.write(text)
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    return 1 if report.count(confidence) else status


def _load(target, arguments, is_module):
    if is_module:
        import runpy

        name, spec, code = runpy._get_module_details(target)
        sys.argv = [spec.origin, *arguments]
        sys.path.insert(0, os.getcwd())
        return code, spec.origin, name.rpartition(".")[0]
    with io.open_code(target) as file:
        code = compile(file.read(), os.path.abspath(target), "exec", dont_inherit=True)
    sys.argv = [target, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(target)))
    return code, os.path.abspath(target), None


def _execute(code, path, package):
    main = types.ModuleType("__main__")
    main.__file__, main.__package__ = path, package
    main.__builtins__ = __builtins__
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    try:
        exec(code, main.__dict__)
        status = 0
    except SystemExit as leaves:
        status = _status(leaves.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    try:
        _wait_for_threads()
    except KeyboardInterrupt:
        status = 130
    sys.modules["__main__"] = before
    # The module is kept: threads that go on look their globals up in it.
    before.__dict__["_raceproof_main"] = main
    return status


def _wait_for_threads():
    """What the interpreter does at its end: waits for all threads that are not daemons."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _status(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _has_colour():
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
