"""Graph algorithms whose results are kept until the graph changes."""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor

Graph = dict[str, list[str]]
Ranks = dict[str, float]

DAMPING = 0.85
ROUNDS = 20
DECAY_STEPS = 64


def pagerank(graph: Graph) -> Ranks:
    """Returns the rank of each node; the ranks add up to about 1."""
    if not graph:
        return {}
    ranks: Ranks = dict.fromkeys(graph, 1.0 / len(graph))
    for _ in range(ROUNDS):
        incoming: Ranks = {}
        for node, targets in graph.items():
            share = ranks[node] / max(len(targets), 1)
            for target in targets:
                incoming[target] = incoming.get(target, 0.0) + share
        base = (1.0 - DAMPING) / len(graph)
        ranks = {node: base + DAMPING * incoming.get(node, 0.0) for node in graph}
    return ranks


def components(graph: Graph) -> list[set[str]]:
    """Returns the sets of nodes that are connected, ignoring directions."""
    neighbours: dict[str, set[str]] = {node: set() for node in graph}
    for node, targets in graph.items():
        for target in targets:
            neighbours[node].add(target)
            neighbours.setdefault(target, set()).add(node)
    found: list[set[str]] = []
    seen: set[str] = set()
    for start in neighbours:
        if start in seen:
            continue
        component: set[str] = set()
        todo = [start]
        while todo:
            node = todo.pop()
            if node not in component:
                component.add(node)
                todo.extend(neighbours[node])
        seen |= component
        found.append(component)
    return found


class GraphAnalytics:
    """Runs algorithms on a pool of threads and keeps their results."""

    def __init__(self, n_workers: int = 4) -> None:
        self._pool = ThreadPoolExecutor(n_workers, thread_name_prefix="analytics")
        self._results: dict[str, Ranks] = {}
        self._n_runs = 0
        self._n_nodes = 0
        self._nodes_lock = threading.Lock()
        self._decay: tuple[float, ...] | None = None

    def ranks(self, name: str, graph: Graph) -> Ranks:
        """Returns the ranks of a graph, computed where they are not known."""
        if name in self._results:
            return self._results[name]
        self._n_runs += 1
        with self._nodes_lock:
            self._n_nodes += len(graph)
        result = pagerank(graph)
        self._results[name] = result
        return result

    def ranks_of_all(self, graphs: dict[str, Graph]) -> dict[str, Ranks]:
        """Returns the ranks of several graphs."""
        futures = {
            name: self._pool.submit(self.ranks, name, graph)
            for name, graph in graphs.items()
        }
        return {name: future.result() for name, future in futures.items()}

    def warm_up(self, graphs: dict[str, Graph]) -> None:
        """Computes ranks ahead of time."""
        for name, graph in graphs.items():
            self._pool.submit(self.ranks, name, graph)

    def invalidate(self, name: str) -> None:
        """Forgets the ranks of a graph that changed."""
        self._results.pop(name, None)

    def decay(self) -> tuple[float, ...]:
        """Returns the weights of edges by age."""
        table = self._decay
        if table is None:
            table = tuple(math.exp(-step / 8.0) for step in range(DECAY_STEPS))
            self._decay = table
        return table

    def weight(self, age_steps: int) -> float:
        """Returns the weight of an edge of some age."""
        return self.decay()[min(age_steps, DECAY_STEPS - 1)]

    def statistics(self) -> dict[str, int]:
        """Returns the number of runs and of nodes so far."""
        with self._nodes_lock:
            n_nodes = self._n_nodes
        return {"runs": self._n_runs, "nodes": n_nodes}

    def close(self) -> None:
        """Waits for what is running."""
        self._pool.shutdown(wait=True)


_analytics = GraphAnalytics()


async def refresh(name: str, graph: Graph) -> Ranks:
    """Computes the ranks of a graph anew."""
    _analytics.invalidate(name)
    return await asyncio.to_thread(_analytics.ranks, name, graph)


async def edge_weights(ages: list[int]) -> list[float]:
    """Returns the weights of several edges."""
    return await asyncio.gather(
        *(asyncio.to_thread(_analytics.weight, age) for age in ages)
    )


def warm_up_all(graphs: dict[str, Graph]) -> dict[str, int]:
    """Starts to compute the ranks of all graphs."""
    _analytics.warm_up(graphs)
    return _analytics.statistics()


def compare(graphs: dict[str, Graph]) -> dict[str, tuple[str, int]]:
    """Returns the best node and the number of components of each graph."""
    ranked = _analytics.ranks_of_all(graphs)
    return {
        name: (max(ranks, key=ranks.__getitem__, default=""), len(components(graph)))
        for (name, graph), ranks in zip(graphs.items(), ranked.values(), strict=True)
    }
