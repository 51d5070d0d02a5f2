"""Two threads count the same visits, and some of them are lost.

`visits += 1` reads, adds and writes. Where the other thread does the same between
the read and the write, both write the same number, and one visit is gone. It is
frequent on a free-threaded Python and rare, yet possible, on one with a GIL.

Find it with: raceproof check examples/lost_update.py
"""

import threading

ROUNDS = 200_000
N_THREADS = 2

visits = 0


def visit() -> None:
    """Counts many visits, one after the other."""
    global visits
    for _ in range(ROUNDS):
        visits += 1


def main() -> None:
    """Counts on several threads and prints how many visits are missing."""
    threads = [threading.Thread(target=visit) for _ in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = N_THREADS * ROUNDS
    print(f"expected {expected}, counted {visits}, lost {expected - visits}")


if __name__ == "__main__":
    main()
