"""Row 15: the memory of a map with a million entries, in bytes for each entry, beside `dict` and the peers.

Each map is filled in a process of its own, from keys and a value that are there before; what counts is by how much the
resident memory grows, the median of three. Memory does not depend on how busy the machine is. `memory.py [ENTRIES]`.
"""

import gc
import resource
import statistics
import subprocess
import sys

from peers import peer

MAPS = ("dict", "ThreadSafeDict", "ConcurrentMap", "CounterMap", "cereggii AtomicDict", "ft_utils ConcurrentDict")


def made(name):
    """An empty map."""
    import raceproof

    if name == "dict":
        return {}
    if hasattr(raceproof, name):
        return getattr(raceproof, name)()
    module, kind = name.split()
    return getattr(peer({"cereggii": "cereggii", "ft_utils": "ft_utils.concurrency"}[module]), kind)()


def resident():
    """The resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def growth(name, n_entries):
    """Bytes for each entry, in this process."""
    keys = [f"key:{idx:08d}" for idx in range(n_entries)]
    for key in keys:
        hash(key)
    value = 1_000 if name == "CounterMap" else ("value",)
    it = made(name)
    gc.collect()
    gc.disable()
    before = resident()
    for key in keys:
        it[key] = value
    return (resident() - before) / n_entries


def main(n_entries):
    bytes_of = {}
    for name in MAPS:
        command = [sys.executable, __file__, str(n_entries), name]
        runs = [subprocess.run(command, capture_output=True, text=True) for _ in range(3)]
        if any(run.returncode for run in runs):
            print(f"{name}: {runs[0].stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        bytes_of[name] = statistics.median(float(run.stdout) for run in runs)
    print("| # | map | bytes for each entry | against dict | against cereggii | against ft_utils |")
    print("|---|---|---|---|---|---|")
    for name, n_bytes in bytes_of.items():
        rivals = ("dict", "cereggii AtomicDict", "ft_utils ConcurrentDict")
        ratios = [f"{n_bytes / bytes_of[rival]:.2f}" if rival in bytes_of else "" for rival in rivals]
        print(f"| 15 | {name} | {n_bytes:.0f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        print(growth(sys.argv[2], entries))
    else:
        main(entries)
