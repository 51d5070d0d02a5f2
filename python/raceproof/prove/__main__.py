"""The child process of `raceproof prove`: reads a request, runs the program within limits, writes an answer.

The request is a JSON object on stdin, the answer one on stdout. What the program prints goes to stderr.
"""

import json
import os
import resource
import sys
import traceback

# Beyond the deadline within which an answer is to come, for the answer itself.
_SPARE_S = 5


def main() -> None:
    """Answers one request."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    _limit(request)
    try:
        answer = _answer(request)
    except MemoryError:
        answer = {"verdict": "gave_up", "reason": f"the memory limit of {request['memory_limit']} MB was reached"}
    except BaseException as cause:
        traceback.print_exc()
        answer = {"verdict": "gave_up", "reason": f"{type(cause).__name__}: {cause}"}
    json.dump(answer, answer_to)
    answer_to.flush()
    # Threads of the program must not hold up the end.
    os._exit(0)


def _limit(request):
    seconds = int(request["time_limit"]) + _SPARE_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + _SPARE_S))
    memory = int(request["memory_limit"]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(request):
    # Only now, within the limits.
    from raceproof.prove import _quiet, _search

    _quiet.prepare()
    case = request.get("case")
    found = _search.search(request) if case is None else _search.explored_again(request, case)
    return _described(found, request)


def _described(found, request):
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
        if request["folder"]:
            title = f"{request['title']} ({request['fingerprint']})"
            answer["test"] = _written.page(title, found.case, outcome.schedule, outcome.reason or "", request["folder"])
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
