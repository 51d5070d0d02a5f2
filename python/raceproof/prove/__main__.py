"""The child process of `raceproof prove`: reads questions about one state of the program, and answers each.

The questions are a JSON object on stdin, the answers one line of JSON each on stdout. The files that they are about are
imported once; then each question has a process of its own, forked, within limits, and thrown away after. So a question
that hangs or is killed costs itself only. What the program prints goes to stderr.
"""

import json
import os
import select
import signal
import sys
import time
import traceback

from raceproof import _limits

# Beyond the time within which a process is to end by itself.
_SPARE_S = 10


def main() -> None:
    """Answers all questions."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    batch = json.load(sys.stdin)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    _limits.limit(batch["time_limit"], batch["memory_limit"])
    # Only now, within the limits.
    begun, seconds_left = time.monotonic(), batch["seconds_left"]
    modules = _imported(batch)
    for number, question in enumerate(batch["questions"]):
        if seconds_left is not None and time.monotonic() - begun >= seconds_left:
            break
        answer = _in_process(question, batch, modules)
        answer_to.write(json.dumps({"number": number, "answer": answer}) + "\n")
        answer_to.flush()
    # Threads of the program must not hold up the end.
    os._exit(0)


def _imported(batch):
    from raceproof.prove import _load, _quiet, _search

    _quiet.prepare()
    modules = _load.Modules(batch["overlay"], batch["root"])
    with _search.within(batch["time_limit"]):
        for file in batch["files"]:
            modules.try_to_get(file)
    return modules


def _in_process(question, batch, modules):
    """The answer of a process of its own; if it does not come, why."""
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        _answer_in_child(question, batch, modules, its)
    os.close(its)
    ends_at = time.monotonic() + batch["time_limit"] + _SPARE_S
    text = bytearray()
    while select.select([ours], [], [], max(0.0, ends_at - time.monotonic()))[0]:
        some = os.read(ours, 1 << 16)
        if not some:
            break
        text += some
    os.close(ours)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    # It has answered, or it has had its time: what it started ends with it.
    is_late = time.monotonic() >= ends_at
    status = _ended(child, is_over=answer is not None or is_late)
    return answer or {"verdict": "gave_up", "reason": _why(status, is_late, batch)}


def _ended(child, is_over):
    if is_over:
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _why(status, is_late, batch):
    if is_late or status == -signal.SIGXCPU:
        return f"the time limit of {batch['time_limit']} s was reached: raise --time-limit, or lower --max-runs"
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
    return f"the process that ran it died: {how}"


def _answer_in_child(question, batch, modules, answer_to):
    try:
        answer = _answer(question, batch, modules)
    except MemoryError:
        answer = {"verdict": "gave_up", "reason": f"the memory limit of {batch['memory_limit']} MB was reached"}
    except BaseException as cause:
        traceback.print_exc()
        answer = {"verdict": "gave_up", "reason": f"{type(cause).__name__}: {cause}"}
    with open(answer_to, "wb", closefd=False) as file:
        file.write(json.dumps(answer).encode())
    os._exit(0)


def _answer(question, batch, modules):
    from raceproof.prove import _search

    limits = {"time_limit": batch["time_limit"], "max_runs": batch["max_runs"]}
    return _described(_search.search(question | limits, modules), question)


def _described(found, question):
    from raceproof.prove import _written

    answer = {
        "verdict": found.verdict,
        "reason": found.reason,
        "is_elsewhere": found.is_elsewhere,
        "scenarios": found.n_scenarios,
        "runs": found.n_runs,
        "notes": found.notes,
    }
    if found.case is not None:
        answer["case"] = found.case.data()
        answer["words"] = found.case.words()
    if found.outcome is not None:
        answer["certificate"] = found.outcome.certificate
    if found.verdict == "failed":
        outcome = found.outcome
        answer |= {
            "kind": outcome.kind,
            "pattern": outcome.pattern,
            "schedule": outcome.schedule,
            "explanation": _explanation(outcome),
            "decisive": _decisive(outcome),
            "steps": [
                {"thread": thread, "path": file, "line": line, "text": text, "decides": decides}
                for thread, file, line, text, decides in outcome.steps
            ],
        }
        if question["folder"]:
            title = f"{question['title']} ({question['fingerprint']})"
            reason = outcome.reason or ""
            answer["test"] = _written.page(title, found.case, outcome.schedule, reason, question["folder"])
    return answer


def _decisive(outcome):
    """The lines whose order decides, in words."""
    lines = dict.fromkeys(f"{os.path.basename(file)}:{line}" for _, file, line, _, decides in outcome.steps if decides)
    return " and ".join(lines) or None


def _explanation(outcome):
    """The story without the frame of a report: the report of `prove` has its own."""
    lines = outcome.explanation.rstrip().splitlines()
    begin = next((idx for idx, line in enumerate(lines) if line.startswith(" seen: ")), 0)
    return "\n".join(line for line in lines[begin:] if not line.startswith((" help: ", "found "))).rstrip()


if __name__ == "__main__":
    main()
