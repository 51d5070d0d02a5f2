"""`pytest --raceproof-detect`: the tests run as they are, under the race detector, and the session fails if threads did
something without order. Modules are watched from their import on."""

import os

import pytest

_LEVELS = ("low", "medium", "high")


def pytest_addoption(parser):
    """The options; nothing is watched without the first one."""
    group = parser.getgroup("raceproof")
    group.addoption(
        "--raceproof-detect",
        action="store_true",
        help="watch what threads do while the tests run, and fail if something was without order",
    )
    group.addoption(
        "--raceproof-detect-confidence",
        choices=_LEVELS,
        default="medium",
        help="hide findings of the race detector that it is less sure of (medium)",
    )
    group.addoption(
        "--raceproof-detect-output",
        metavar="FILE",
        help="write the findings to a file; its ending says how: .json, .sarif, .html or text",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config, parser, args):
    """Begins before anything of the program is imported."""
    if not early_config.known_args_namespace.raceproof_detect:
        return
    from raceproof.detect import Detector

    detector = Detector()
    try:
        detector.start()
    except RuntimeError as cause:
        raise pytest.UsageError(f"--raceproof-detect: {cause}") from None
    early_config.pluginmanager.register(_Session(detector, early_config), "raceproof-detect-session")


class _Session:
    """Tells in the end what was found."""

    def __init__(self, detector, config):
        self._detector = detector
        self._config = config
        self._pid = os.getpid()
        self._report = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if os.getpid() != self._pid:
            return
        self._report = self._detector.stop()
        options = self._config.known_args_namespace
        if self._report.count(options.raceproof_detect_confidence) and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self._report is None:
            return
        options = self._config.known_args_namespace
        level, output = options.raceproof_detect_confidence, options.raceproof_detect_output
        terminalreporter.section("raceproof: races")
        if output is None:
            terminalreporter.write(self._report.render("text", terminalreporter.hasmarkup, level))
            return
        ending = output.rpartition(".")[2]
        format = ending if ending in ("json", "sarif", "html") else "text"
        with open(output, "w", encoding="utf-8") as file:
            file.write(self._report.render(format, False, level))
        terminalreporter.write_line(f"{self._report.count(level)} findings, written to {output}")
