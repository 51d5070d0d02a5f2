"""Sentences of the guide that a test quotes in its docstring stand in the guide."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "guide"


def plain(text):
    return " ".join(text.split()).lower()


PAGES = {
    "cache": ["cache"],
    "locks": ["async_lock", "locks", "watch_locks"],
    "once": ["once", "once_waits"],
    "state": ["state"],
}


@pytest.mark.parametrize("name", PAGES)
def test_what_the_tests_quote_stands_in_the_guide(name):
    page = plain((GUIDE / f"{name}.md").read_text())
    tests = [test for file in PAGES[name] for test in ast.parse((HERE / f"test_{file}.py").read_text()).body]
    quotes = [
        quote
        for test in tests
        if isinstance(test, ast.FunctionDef)
        for quote in re.findall(r'"([^"]+)"', ast.get_docstring(test) or "")
    ]
    assert len(quotes) > 10
    assert [quote for quote in quotes if plain(quote.rstrip(".")) not in page] == []
