"""The extension module as a whole."""

import sys

import raceproof


def test_importing_it_leaves_the_gil_off():
    gil = getattr(sys, "_is_gil_enabled", None)
    if gil is not None and "free-threading" in sys.version:
        assert not gil()


def test_every_public_name_exists_and_is_documented():
    for name in raceproof.__all__:
        assert getattr(raceproof, name).__doc__, name
