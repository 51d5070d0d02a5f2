"""CPython's own suites for thread pools, with `Pool` in the place of ThreadPoolExecutor."""

import unittest

import pytest

import raceproof

pytest.importorskip("test.test_concurrent_futures", reason="the test package of CPython is not installed")
from test.test_concurrent_futures import test_as_completed, test_shutdown, test_thread_pool, test_wait

# These two make a ThreadPoolExecutor of their own: they do not judge us.
NOT_OURS = {"test_hang_global_shutdown_lock", "test_process_fork_from_a_threadpool"}


class JudgedPool(raceproof.Pool):
    """With the two private names that the suite looks at."""

    @property
    def _max_workers(self):
        return self.max_workers

    @property
    def _threads(self):
        return set(self._started())


@pytest.mark.parametrize(
    ("suite", "least"),
    [
        (test_thread_pool.ThreadPoolExecutorTest, 15),
        (test_shutdown.ThreadPoolShutdownTest, 13),
        (test_wait.ThreadPoolWaitTests, 8),
        (test_as_completed.ThreadPoolAsCompletedTest, 4),
    ],
)
def test_suite(suite, least, monkeypatch):
    def run(option, program, **options):
        """Programs that the suite runs in a child import the class by its name."""
        program = program.replace(
            "from concurrent.futures import JudgedPool", "from raceproof import Pool as JudgedPool"
        )
        return run_as_it_was(option, program, **options)

    run_as_it_was = test_shutdown.assert_python_ok
    monkeypatch.setattr(test_shutdown, "assert_python_ok", run)
    judged = type(suite.__name__, (suite,), {"executor_type": JudgedPool, "__module__": suite.__module__})
    names = [name for name in unittest.defaultTestLoader.getTestCaseNames(judged) if name not in NOT_OURS]
    result = unittest.TestResult()
    unittest.TestSuite(map(judged, names)).run(result)
    assert (result.failures, result.errors) == ([], [])
    assert result.testsRun >= least
