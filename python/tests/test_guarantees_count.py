"""Each sentence under "Guarantees" of these pages stands in the docstring of a test, word for word."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GUIDE = HERE.parent.parent / "docs" / "guide"
PAGES = {
    "counters": ["test_count.py"],
    "threads": ["test_pool.py", "test_local.py", "test_count.py"],
    "sharing": ["test_sharing.py"],
}


def words(text):
    return " ".join(text.split())


def promises(page):
    text = (GUIDE / f"{page}.md").read_text()
    for section in re.findall(r"^#{2,3} Guarantees\n(.*?)(?=^#{2,3} |\Z)", text, re.DOTALL | re.MULTILINE):
        yield from (words(line) for line in re.findall(r"^- (.*)$", section, re.MULTILINE))


@pytest.mark.parametrize(("page", "files"), PAGES.items())
def test_each_promise_has_a_test(page, files):
    trees = [ast.parse((HERE / file).read_text()) for file in files]
    tests = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    held = " ".join(words(ast.get_docstring(test) or "") for test in tests if test.name.startswith("test_"))
    made = list(promises(page))
    assert len(made) > 5
    assert [promise for promise in made if promise not in held] == []
