"""Trainer and LVLM service on a Redis with users under mutual TLS, with the rights that the manifests recommend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from services.common.runtime.errors import Unavailable
from services.common.runtime.queues import CRITIQUES_QUEUE, JOBS_QUEUE
from services.common.vision.critique import CritiqueBatch
from services.lvlm.adapters.celery_sink import CelerySink
from services.trainer import metrics
from services.trainer.adapters.gauges import BrokerGauges
from services.trainer.adapters.redis_lease import RedisLease
from services.trainer.adapters.redis_progress import RedisProgress
from services.trainer.ports import Progress
from tests.integration.trainer.conftest import Trainer
from tests.support.certificates import Authority
from tests.support.secured_redis import SecuredRedis, serve_secured_redis
from tests.support.waiting import wait_for
from tests.unit.trainer.made_up import make_critique

BATCH = CritiqueBatch(job_id="20261127-000000-000000-00000000", critiques=[make_critique()])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredRedis]:
    with serve_secured_redis(tmp_path_factory.mktemp("secured")) as running:
        yield running


def test_a_batch_goes_from_the_lvlm_service_through_tls_to_a_worker_that_has_its_url_in_a_file(
    secured: SecuredRedis, tmp_path: Path
):
    (tmp_path / "data").mkdir()
    url_file = tmp_path / "url"
    url_file.write_text(secured.url("trainer") + "\n")
    files = secured.files("trainer")
    trainer = Trainer(tmp_path, broker_url="", listen="127.0.0.1:0")
    with trainer.running():
        trainer.start(
            "worker",
            broker_url_file=str(url_file),
            broker_authority=str(files.authority),
            broker_certificate=str(files.certificate),
            broker_key=str(files.key),
        )
        asyncio.run(CelerySink(secured.broker("lvlm")).publish([BATCH]))
        wait_for(lambda: list((tmp_path / "store" / "unclaimed").glob("*.json")), 20)
        wait_for(lambda: not secured.broker("trainer").connect(2).hlen("unacked"), 10)
    assert "pass@word" not in trainer.logs()
    assert "pass%40word" not in trainer.logs()


def test_leases_progress_and_gauges_work_under_tls(secured: SecuredRedis):
    broker = secured.broker("trainer")
    with RedisLease(broker).hold("j", "train") as is_ours:
        assert is_ours()
        BrokerGauges(broker).look()
        assert metrics.LEASES.labels("train")._value.get() == 1
    RedisProgress(broker).show("j", Progress(1, 2, "batch", 0.5))
    assert RedisProgress(broker).look("j") == Progress(1, 2, "batch", 0.5)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("lvlm", ["LRANGE", CRITIQUES_QUEUE, 0, -1]),
        ("lvlm", ["LPUSH", JOBS_QUEUE, "{}"]),
        ("trainer", ["FLUSHALL"]),
        ("trainer", ["CONFIG", "GET", "*"]),
        ("keda", ["LPUSH", JOBS_QUEUE, "{}"]),
    ],
)
def test_a_user_may_do_no_more_than_its_service_needs(secured: SecuredRedis, user: str, command: list):
    with secured.broker(user).connect(2) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_the_autoscaler_may_ask_how_long_a_queue_is(secured: SecuredRedis):
    with secured.broker("keda").connect(2) as client:
        assert client.llen(JOBS_QUEUE) == 0


def test_a_wrong_password_an_unknown_authority_and_a_missing_certificate_are_refused(
    secured: SecuredRedis, tmp_path: Path
):
    known = secured.broker("trainer")
    stranger = Authority("stranger").write(tmp_path / "stranger", "trainer")
    refused = [
        secured.broker("trainer", "wrong"),
        type(known)(known.url, stranger.authority, known.certificate, known.key),
        type(known)(known.url, known.authority, stranger.certificate, stranger.key),
        type(known)(known.url, known.authority),
    ]
    for broker in refused:
        with pytest.raises(Unavailable), RedisLease(broker).hold("j", "train"):
            pass
    assert "pass" not in repr(known)
