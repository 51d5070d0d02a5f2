"""The command line of the package: the same as that of the Rust binary."""

import subprocess
import sys

RACY = """\
import threading

count = 0


def work():
    global count
    count += 1


threading.Thread(target=work).start()
threading.Thread(target=work).start()
"""


def run(*words, cwd=None):
    return subprocess.run([sys.executable, "-m", "raceproof", *words], capture_output=True, text=True, cwd=cwd)


def test_check_finds_a_lost_update_and_exits_with_1(tmp_path):
    (tmp_path / "racy.py").write_text(RACY)
    ended = run("check", "racy.py", cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert "unlocked-increment" in ended.stdout


def test_a_wrong_word_exits_with_2_and_is_named():
    ended = run("chekc")
    assert ended.returncode == 2
    assert "chekc" in ended.stderr
