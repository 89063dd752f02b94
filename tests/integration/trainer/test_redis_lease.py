"""Leases and progress on a real Redis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from services.common.runtime.broker import Broker
from services.common.runtime.errors import Conflict, Unavailable
from services.trainer.adapters.redis_lease import RedisLease
from services.trainer.adapters.redis_progress import RedisProgress
from services.trainer.ports import Progress
from tests.support.waiting import wait_for

CLOSED = Broker("redis://127.0.0.1:1/0")


@pytest.fixture
def broker(broker_url: str) -> Broker:
    return Broker(broker_url)


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as opened:
        yield opened


def test_a_step_is_held_by_one_and_free_again_after_it(broker: Broker):
    first, second = RedisLease(broker), RedisLease(broker)
    with first.hold("j", "train") as is_ours:
        assert is_ours()
        with pytest.raises(Conflict, match="another worker"), second.hold("j", "train"):
            pass
        with second.hold("j", "critique"), second.hold("other", "train"):
            pass
    with second.hold("j", "train") as is_ours:
        assert is_ours()


def test_a_lease_is_renewed_for_as_long_as_its_holder_works(broker: Broker, client: redis.Redis):
    with RedisLease(broker, lease_s=0.6).hold("j", "train") as is_ours:
        seen: list[int] = []

        def has_been_renewed() -> bool:
            seen.append(client.pttl("plumbline:lease:j:train"))
            return any(after > before for before, after in itertools.pairwise(seen)) and len(seen) > 12

        wait_for(has_been_renewed, 10)
        assert min(seen) > 0
        assert is_ours()


def test_a_holder_notices_that_its_lease_went_to_somebody_else(broker: Broker, client: redis.Redis):
    lease = RedisLease(broker, lease_s=0.3)
    with lease.hold("j", "train") as is_ours:
        client.set("plumbline:lease:j:train", "somebody else")
        wait_for(lambda: not is_ours(), 5)
    assert client.get("plumbline:lease:j:train") == b"somebody else"


def test_a_failure_after_the_lease_was_lost_is_a_conflict_and_before_it_is_itself(broker: Broker, client: redis.Redis):
    lease = RedisLease(broker, lease_s=0.3)
    with pytest.raises(ZeroDivisionError), lease.hold("j", "train"):
        raise ZeroDivisionError
    with pytest.raises(Conflict, match="lost"):
        _fail_after_losing(lease, client)


def _fail_after_losing(lease: RedisLease, client: redis.Redis) -> None:
    with lease.hold("j", "train") as is_ours:
        client.set("plumbline:lease:j:train", "somebody else")
        wait_for(lambda: not is_ours(), 5)
        raise ZeroDivisionError


def test_a_lease_ends_by_itself_when_its_holder_dies(broker: Broker, client: redis.Redis):
    client.set("plumbline:lease:j:train", "the dead", px=300)
    lease = RedisLease(broker)
    assert lease.is_active("j")
    wait_for(lambda: not lease.is_active("j"), 5)
    with lease.hold("j", "train") as is_ours:
        assert is_ours()


def test_a_touched_job_is_active_for_a_while(broker: Broker):
    lease = RedisLease(broker, active_s=0.4)
    lease.touch("j")
    assert lease.is_active("j")
    wait_for(lambda: not lease.is_active("j"), 5)


def test_one_of_all_workers_recovers_a_job(broker: Broker):
    workers = [RedisLease(broker) for _ in range(3)]
    assert [worker.claim_recovery("j") for worker in workers] == [True, False, False]
    assert workers[1].claim_recovery("other")


def test_without_a_broker_nothing_is_held_recovered_or_broken(broker: Broker):
    away = RedisLease(CLOSED)
    with pytest.raises(Unavailable), away.hold("j", "train"):
        pass
    away.touch("j")
    for ask in (away.is_active, away.claim_recovery):
        with pytest.raises(Unavailable):
            ask("j")


def test_progress_is_the_last_that_was_shown_and_expires(broker: Broker, client: redis.Redis):
    board = RedisProgress(broker)
    assert board.look("j") is None
    board.show("j", Progress(1, 9, "image"))
    board.show("j", Progress(2, 9, "batch", 0.25))
    assert RedisProgress(broker).look("j") == Progress(2, 9, "batch", 0.25)
    assert 0 < client.ttl("plumbline:progress:j") <= 24 * 3600


def test_progress_without_a_broker_is_none_and_stops_nobody():
    board = RedisProgress(CLOSED)
    board.show("j", Progress(1, 9, "image"))
    assert board.look("j") is None
