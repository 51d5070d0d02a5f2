"""CPython's own tests of `functools.lru_cache` and `functools.cache`, with `cached` in their place.

Two differ, by design: test_lru_cache_threaded2 waits until several threads execute the same call at once, which here
share one execution; test_lru_bug_35780 calls itself with equal arguments, which here is a ReentrantError.
"""

import unittest

import pytest

from raceproof import CacheInfo, cached

suite = pytest.importorskip("test.test_functools")


class Functools:
    """functools with our decorators."""

    lru_cache = staticmethod(cached)
    cache = staticmethod(lambda function: cached(None)(function))
    _CacheInfo = CacheInfo

    def __getattr__(self, name):
        return getattr(suite.py_functools, name)


@cached()
def cached_function(x, y):
    return 3 * x + y


class TestLRUOfOurs(suite.TestLRU, unittest.TestCase):
    module = Functools()
    cached_func = (cached_function,)
    test_lru_cache_threaded2 = None
    test_lru_bug_35780 = None

    @cached()
    def cached_meth(self, x, y):
        return 3 * x + y

    @staticmethod
    @cached()
    def cached_staticmeth(x, y):
        return 3 * x + y


class TestCacheOfOurs(suite.TestCache, unittest.TestCase):
    module = Functools()
