"""The programs of docs/guide/testing.md and explore.md run, and print what the comments beside `print` say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}")
    for page in ("testing", "explore")
    for number, program in enumerate(re.findall(r"```python\n(.*?)```", (GUIDE / f"{page}.md").read_text(), re.S))
    # A block that goes on with the one before is not a program.
    if "import" in program
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_runs_and_prints_what_it_says(program, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(program)
    ended = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    for said in re.findall(r"^print\(.*\)  # (.*)$", program, re.M):
        assert said in ended.stdout.splitlines()


def test_testing_is_found_in_the_package():
    code = "import sys, raceproof; assert 'raceproof.testing' not in sys.modules; print(raceproof.testing.explore)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
