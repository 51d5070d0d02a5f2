"""Two threads take the same two locks in opposite order and wait for one another.

Each thread holds the lock that the other one wants: neither ever goes on.

Find it with: raceproof check examples/lock_order.py
"""

import threading
import time

checking_lock = threading.Lock()
savings_lock = threading.Lock()
balances = {"checking": 100, "savings": 100}


def save(amount: int) -> None:
    """Moves money from checking to savings."""
    with checking_lock:
        time.sleep(0.01)
        with savings_lock:
            balances["checking"] -= amount
            balances["savings"] += amount


def spend(amount: int) -> None:
    """Moves money from savings to checking."""
    with savings_lock:
        time.sleep(0.01)
        with checking_lock:
            balances["savings"] -= amount
            balances["checking"] += amount


if __name__ == "__main__":
    saver = threading.Thread(target=save, args=(10,), daemon=True)
    spender = threading.Thread(target=spend, args=(10,), daemon=True)
    saver.start()
    spender.start()
    saver.join(timeout=1.0)
    spender.join(timeout=1.0)
    print(f"waiting for one another: {saver.is_alive()}")
