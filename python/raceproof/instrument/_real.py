"""The standard library as it is without raceproof: taken before anything stands in for it."""

import _thread
import queue
import threading
import time

start_new_thread = _thread.start_new_thread
allocate_lock = _thread.allocate_lock
Lock = type(_thread.allocate_lock())
RLock = type(threading.RLock())
make_rlock = threading.RLock
Condition = threading.Condition
SimpleQueue = queue.SimpleQueue
Thread_start = threading.Thread.start
Thread_join = threading.Thread.join
Thread_is_alive = threading.Thread.is_alive
get_ident = threading.get_ident
sleep = time.sleep
clocks = {
    name: getattr(time, name)
    for name in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns")
}
