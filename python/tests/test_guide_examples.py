"""The guide's examples, in our words, after a change of imports only: singletons, containers, global state."""

import asyncio
import uuid

import pytest
from conftest import run_together

import raceproof
from raceproof import ThreadSafeGlobalState, ThreadSafeSingleton


class Metrics(ThreadSafeSingleton):
    """The shape of the guide's health monitor."""

    def __init__(self):
        self.metrics = {}

    async def update_metric(self, name, value):
        self.metrics[name] = value

    async def get_metric(self, name):
        return self.metrics.get(name)


async def get_metrics():
    """The shape of the guide's module-level getter."""
    return await Metrics.get_instance()


def test_the_singleton_is_one_object_in_every_thread_and_loop():
    async def main(number):
        monitor = await get_metrics()
        await monitor.update_metric(f"metric_{number}", number)
        instances = await asyncio.gather(*(Metrics.get_instance() for _ in range(10)))
        return {id(instance) for instance in instances} | {id(monitor)}

    ids = run_together(*[lambda number=number: asyncio.run(main(number)) for number in range(4)])
    assert len(set.union(*ids)) == 1
    assert asyncio.run(Metrics.instance().get_metric("metric_3")) == 3


def test_each_subclass_has_its_own():
    class Incidents(ThreadSafeSingleton):
        def __init__(self):
            self.incidents = {}

    async def main():
        return await Metrics.get_instance(), await Incidents.get_instance()

    first, second = asyncio.run(main())
    assert first is not second
    incident = uuid.uuid4()
    second.incidents[incident] = 1
    assert Incidents.instance().incidents == {incident: 1}


def test_the_global_state():
    state = ThreadSafeGlobalState()

    async def main(number):
        for turn in range(50):
            await state.set(f"key_{number}", turn)
            assert await state.get(f"key_{number}") == turn
        await state.delete("absent")
        return await state.keys()

    for keys in run_together(*[lambda number=number: asyncio.run(main(number)) for number in range(4)]):
        assert isinstance(keys, list)
    assert sorted(state.sync.keys()) == [f"key_{number}" for number in range(4)]
    asyncio.run(state.clear())
    assert asyncio.run(state.get("key_1", "default")) == "default"


@pytest.mark.skipif(not hasattr(raceproof, "ThreadSafeDict"), reason="the dict is not built yet")
def test_the_dict():
    items = raceproof.ThreadSafeDict({"a": 1}, b=2)
    items["c"] = 3
    assert (items["a"], items.get("x"), items.get("x", 0)) == (1, None, 0)
    for view, expected in ((items.keys(), ["a", "b", "c"]), (items.values(), [1, 2, 3])):
        assert list(view) == expected
    assert list(items.items()) == [("a", 1), ("b", 2), ("c", 3)]


@pytest.mark.skipif(not hasattr(raceproof, "ThreadSafeList"), reason="the list is not built yet")
def test_the_list():
    items = raceproof.ThreadSafeList([1])
    items.append(2)
    items.extend([3, 4])
    items[0] = 0
    assert (items[0], len(items), list(items)) == (0, 4, [0, 2, 3, 4])
