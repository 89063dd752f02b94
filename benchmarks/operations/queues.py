"""Waiting in a queue with several servers: by formula, and event by event."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np


def erlang_c(servers: int, load: float) -> float:
    """How likely a Poisson arrival has to wait in M/M/c (Erlang 1917); `load` is arrivals per second times seconds of service, 1 when it is `servers` or more."""
    if load >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def wait_quantile(share: float, rate: float, service_s: float, servers: int, variability: float = 1.0) -> float:
    """Seconds that `share` of the arrivals wait at most; infinite when more comes than is served.

    Exact for M/M/c, where the `variability` of service times (variance over the mean's square) is 1. Else the wait of those who wait is stretched by (1 + variability) / 2, which
    gives Allen and Cunneen's mean (1990).
    """
    load = rate * service_s
    waiting = erlang_c(servers, load)
    if load >= servers:
        return math.inf
    if waiting <= 1 - share:
        return 0.0
    pace = (servers - load) / service_s
    return math.log(waiting / (1 - share)) / pace * (1 + variability) / 2


def fewest_servers(
    share: float, most_wait_s: float, rate: float, service_s: float, variability: float, utilisation: float, least: int
) -> int:
    """So many that `share` of the arrivals wait `most_wait_s` at most and no more than `utilisation` of the servers' time is taken."""
    first = max(least, math.ceil(rate * service_s / utilisation), 1)
    return _fewest(first, most_wait_s, lambda servers: wait_quantile(share, rate, service_s, servers, variability))


def fewest_replicas(
    share: float, most_wait_s: float, rate: float, service_s: float, variability: float, utilisation: float, least: int
) -> int:
    """The same of replicas with one server and one queue each, over which arrivals are spread by chance: who waits at one is not served by another that is free."""
    first = max(least, math.ceil(rate * service_s / utilisation), 1)
    return _fewest(
        first, most_wait_s, lambda replicas: wait_quantile(share, rate / replicas, service_s, 1, variability)
    )


def _fewest(first: int, most_wait_s: float, wait_s: Callable[[int], float]) -> int:
    return next(count for count in itertools.count(first) if wait_s(count) <= most_wait_s)


def simulate_waits(
    arrivals_s: np.ndarray, services_s: np.ndarray, servers: int, is_bulk: Sequence[bool] | None = None
) -> np.ndarray:
    """Seconds that each arrival waits, event by event: first come, first served, but what `is_bulk` only where nothing else waits.

    `arrivals_s` rise. A service that was begun is finished.
    """
    bulk = np.zeros(len(arrivals_s), bool) if is_bulk is None else np.asarray(is_bulk)
    free_s = [0.0] * servers
    at_once: deque[int] = deque()
    later: deque[int] = deque()
    waits = np.empty(len(arrivals_s))
    come = 0
    for _ in range(len(arrivals_s)):
        start_s = free_s[0]
        if not at_once and not later:
            start_s = max(start_s, arrivals_s[come])
        while come < len(arrivals_s) and arrivals_s[come] <= start_s:
            (later if bulk[come] else at_once).append(come)
            come += 1
        chosen = at_once.popleft() if at_once else later.popleft()
        waits[chosen] = start_s - arrivals_s[chosen]
        heapq.heapreplace(free_s, start_s + services_s[chosen])
    return waits


def simulate_replicas(
    arrivals_s: np.ndarray, services_s: np.ndarray, replica_of: np.ndarray, is_bulk: Sequence[bool] | None = None
) -> np.ndarray:
    """`simulate_waits` of one server per replica; `replica_of` says which each arrival goes to."""
    bulk = np.zeros(len(arrivals_s), bool) if is_bulk is None else np.asarray(is_bulk)
    waits = np.empty(len(arrivals_s))
    for replica in np.unique(replica_of):
        own = np.flatnonzero(replica_of == replica)
        waits[own] = simulate_waits(arrivals_s[own], services_s[own], 1, bulk[own])
    return waits


def draw_arrivals(rates_per_h: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Poisson arrivals in seconds over as many hours as there are rates."""
    hours = [
        np.sort(3600 * (hour + generator.random(generator.poisson(rate)))) for hour, rate in enumerate(rates_per_h)
    ]
    return np.concatenate(hours)


def draw_services(mean_s: float, variability: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """Service times of a gamma distribution: seconds."""
    return generator.gamma(1 / variability, mean_s * variability, count)
