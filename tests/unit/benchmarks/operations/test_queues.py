"""The simulator against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.operations.queues import (
    draw_arrivals,
    draw_services,
    erlang_c,
    fewest_replicas,
    fewest_servers,
    simulate_replicas,
    simulate_waits,
    wait_quantile,
)

COUNT = 200_000
SERVICE_S = 2.0


def simulate(servers: int, utilisation: float, variability: float = 1.0, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    gaps = generator.exponential(SERVICE_S / servers / utilisation, COUNT)
    return simulate_waits(np.cumsum(gaps), draw_services(SERVICE_S, variability, COUNT, generator), servers)


def test_one_server_keeps_the_closed_form_of_mm1():
    # P(W > t) = ρ exp(-(1-ρ) t / s), mean ρ s / (1-ρ).
    waits, utilisation = simulate(1, 0.6), 0.6
    assert waits.mean() == pytest.approx(utilisation * SERVICE_S / (1 - utilisation), rel=0.05)
    assert (waits > 0).mean() == pytest.approx(utilisation, abs=0.01)
    p99 = -SERVICE_S / (1 - utilisation) * math.log(0.01 / utilisation)
    assert np.percentile(waits, 99) == pytest.approx(p99, rel=0.06)
    assert wait_quantile(0.99, utilisation / SERVICE_S, SERVICE_S, 1) == pytest.approx(p99)


@pytest.mark.parametrize(("servers", "utilisation"), [(2, 0.5), (5, 0.8), (20, 0.9)])
def test_many_servers_keep_the_closed_form_of_mmc(servers, utilisation):
    waits, load = simulate(servers, utilisation), servers * utilisation
    waiting = erlang_c(servers, load)
    assert (waits > 0).mean() == pytest.approx(waiting, abs=0.02)
    assert waits.mean() == pytest.approx(waiting * SERVICE_S / (servers - load), rel=0.1)
    assert np.percentile(waits, 99) == pytest.approx(wait_quantile(0.99, load / SERVICE_S, SERVICE_S, servers), rel=0.1)


def test_erlang_c_is_that_of_the_tables():
    assert erlang_c(1, 0.5) == pytest.approx(0.5)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(5, 4.0) == pytest.approx(0.5541, abs=1e-4)
    assert erlang_c(3, 3.0) == 1.0


def test_one_server_with_even_services_waits_half_as_long():
    # Pollaczek and Khinchine: the mean wait is ρ s (1 + variability) / (2 (1-ρ)).
    utilisation, variability = 0.7, 0.1
    waits = simulate(1, utilisation, variability)
    assert waits.mean() == pytest.approx(utilisation * SERVICE_S * 1.1 / 2 / (1 - utilisation), rel=0.05)
    predicted = wait_quantile(0.99, utilisation / SERVICE_S, SERVICE_S, 1, variability)
    assert np.percentile(waits, 99) == pytest.approx(predicted, rel=0.1)


def test_the_formula_for_uneven_services_is_near_the_simulation():
    for servers, utilisation, variability in ((4, 0.7, 0.1), (10, 0.85, 0.5)):
        waits = simulate(servers, utilisation, variability)
        predicted = wait_quantile(0.99, servers * utilisation / SERVICE_S, SERVICE_S, servers, variability)
        assert np.percentile(waits, 99) == pytest.approx(predicted, rel=0.2)


def test_bulk_waits_for_all_else_and_is_not_interrupted():
    arrivals, services = np.array([0.0, 0.1, 0.2, 0.3]), np.full(4, 1.0)
    waits = simulate_waits(arrivals, services, 1, [True, True, False, False])
    assert waits == pytest.approx([0.0, 2.9, 0.8, 1.7])


def test_more_than_is_served_waits_for_ever_and_enough_servers_are_the_fewest():
    assert wait_quantile(0.99, 1.0, SERVICE_S, 2) == math.inf
    servers = fewest_servers(0.99, 1.0, 3.0, SERVICE_S, 1.0, utilisation=1.0, least=1)
    assert wait_quantile(0.99, 3.0, SERVICE_S, servers) <= 1.0 < wait_quantile(0.99, 3.0, SERVICE_S, servers - 1)
    assert fewest_servers(0.99, 1.0, 0.001, SERVICE_S, 1.0, utilisation=0.8, least=2) == 2


def test_replicas_with_queues_of_their_own_are_more_than_servers_with_one_and_wait_as_the_formula_says():
    most_wait_s, rate = SERVICE_S, 8.0 / SERVICE_S
    replicas = fewest_replicas(0.99, most_wait_s, rate, SERVICE_S, 1.0, utilisation=1.0, least=1)
    assert replicas > fewest_servers(0.99, most_wait_s, rate, SERVICE_S, 1.0, utilisation=1.0, least=1)
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(1 / rate, COUNT))
    services = draw_services(SERVICE_S, 1.0, COUNT, generator)
    waits = simulate_replicas(arrivals, services, generator.integers(replicas, size=COUNT))
    predicted = wait_quantile(0.99, rate / replicas, SERVICE_S, 1)
    assert np.percentile(waits, 99) == pytest.approx(predicted, rel=0.1)
    assert predicted <= most_wait_s


def test_a_replica_knows_nothing_of_another_that_is_free():
    arrivals, services = np.array([0.0, 0.1, 0.2]), np.full(3, 1.0)
    assert simulate_replicas(arrivals, services, np.array([0, 1, 0])) == pytest.approx([0.0, 0.0, 0.8])
    assert simulate_replicas(arrivals, services, np.array([0, 0, 0]), [False, True, False]) == pytest.approx(
        [0.0, 1.9, 0.8]
    )


def test_arrivals_keep_the_rate_of_their_hour():
    arrivals = draw_arrivals([0.0, 10_000.0, 1000.0], np.random.default_rng(0))
    assert (np.diff(arrivals) >= 0).all()
    assert np.histogram(arrivals, bins=[0, 3600, 7200, 10800])[0] == pytest.approx([0, 10_000, 1000], rel=0.1)


def test_services_have_the_mean_and_the_variability_asked_for():
    services = draw_services(2.0, 0.25, COUNT, np.random.default_rng(0))
    assert services.mean() == pytest.approx(2.0, rel=0.01)
    assert services.var() / services.mean() ** 2 == pytest.approx(0.25, rel=0.03)
