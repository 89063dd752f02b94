"""Builds the trainer's API and its worker from the settings: the only place where their real parts are made."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import celery
import grpc
from celery import signals

from plumbline.trainer.v1 import audit_service_pb2_grpc as audit_rpc
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common.runtime.audit_log import AuditLog
from services.common.runtime.broker import Broker
from services.common.runtime.errors import ServiceError
from services.common.runtime.metrics import serve_metrics, serve_page
from services.common.runtime.open_store import open_store
from services.common.runtime.queues import QUEUES_BY_NAME
from services.common.runtime.server import serve
from services.common.runtime.traces import export_traces
from services.trainer.adapters.audited_record import AuditedRecord
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.adapters.gauges import BrokerGauges, JobGauges
from services.trainer.adapters.lvlm_client import LvlmClient
from services.trainer.adapters.metered_consuming import MeteredConsuming
from services.trainer.adapters.metered_run import MeteredRun
from services.trainer.adapters.one_message import end_after_one_message
from services.trainer.adapters.open_tracker import open_tracker
from services.trainer.adapters.pulse import beat
from services.trainer.adapters.redis_lease import RedisLease
from services.trainer.adapters.redis_progress import RedisProgress
from services.trainer.adapters.training_child import TrainingChild
from services.trainer.audit_servicer import AUDIT_SERVICE, AuditServicer
from services.trainer.handlers.auditing import Auditing
from services.trainer.handlers.completing import Completing
from services.trainer.handlers.critiquing import Critiquing
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.retrying import Retrying
from services.trainer.handlers.reviewing import Reviewing
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.training import Training
from services.trainer.handlers.watching import Watching
from services.trainer.messages import read_submission_json
from services.trainer.servicer import SERVICE, TrainerServicer
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import Steps, register_tasks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What API and worker share."""

    broker: Broker
    app: celery.Celery
    queue: CeleryQueue
    record: AuditedRecord
    audit_log: AuditLog
    datasets: DatasetFolder
    explainer: ExplainerClient
    board: RedisProgress
    lease: RedisLease

    @classmethod
    def build(cls, settings: TrainerSettings) -> _Parts:
        broker = settings.read_broker()
        app = build_app(broker)
        store = open_store(settings.store_root)
        audit_log = AuditLog(store)
        return cls(
            broker,
            app,
            CeleryQueue(app),
            AuditedRecord(store, audit_log),
            audit_log,
            DatasetFolder(settings.data_root),
            ExplainerClient(
                settings.explainer_address,
                settings.explainer_timeout_s,
                settings.publish_timeout_s,
                settings.certificates,
            ),
            RedisProgress(broker),
            RedisLease(broker, settings.lease_s, active_s=settings.recovery_interval_s),
        )

    def submitting(self, settings: TrainerSettings) -> Submitting:
        return Submitting(self.record, self.explainer, self.datasets, self.queue, settings.max_open_jobs_per_submitter)

    def completing(self) -> Completing:
        return Completing(self.record, self.queue)


async def run_api(settings: TrainerSettings) -> None:
    """Serve the gRPC API until told to stop."""
    parts = _Parts.build(settings)
    completing, submitting = parts.completing(), parts.submitting(settings)
    watching = Watching(parts.record, parts.board)
    audit_servicer = AuditServicer(Auditing(parts.audit_log), watching)
    servicer = TrainerServicer(
        submitting,
        watching,
        MeteredConsuming(parts.record, completing, parts.lease),
        Reviewing(parts.record, completing),
        Retrying(parts.record, submitting),
        # Asked for by a person, who need not wait until a job has been quiet for a while.
        Recovering(parts.record, parts.queue, completing, parts.lease, quiet=timedelta(0)),
    )

    def register(server: grpc.aio.Server) -> None:
        rpc.add_TrainerServiceServicer_to_server(servicer, server)
        audit_rpc.add_AuditServiceServicer_to_server(audit_servicer, server)

    jobs, broker = JobGauges(parts.record), BrokerGauges(parts.broker)
    sources = {"jobs": lambda: asyncio.to_thread(jobs.look), "broker": lambda: asyncio.to_thread(broker.look)}
    with export_traces("trainer-api", settings.otlp_endpoint):
        async with serve_metrics(settings.metrics_listen, sources):
            await serve(settings, [SERVICE, AUDIT_SERVICE], register)


def run_worker(settings: TrainerSettings) -> None:
    """Work off the queues until told to stop.

    Threads, not forks: gRPC does not survive a fork, and what is heavy (training) runs in a process of its own anyway. SIGTERM ends
    that process after the step that it is at, with a checkpoint, and asking for critiques after the call that is under way: the job goes back into the
    queue and goes on elsewhere.
    """
    for chatty in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # they log arguments, and those name pictures
    parts = _Parts.build(settings)
    lvlm = LvlmClient(settings.lvlm_address, settings.lvlm_timeout_s, settings.certificates)
    tracker = open_tracker(settings.tracking, settings.tracking_location, settings.tracking_timeout_s)
    stopping = threading.Event()
    run = TrainingChild(
        settings.store_root,
        settings.data_root,
        settings.training_threads,
        settings.training_timeout_s,
        settings.checkpoint_interval_s,
        stopping,
        settings.training_processes,
        settings.training_device,
    )
    completing = parts.completing()
    register_tasks(
        parts.app,
        Steps(
            parts.record,
            parts.submitting(settings),
            Critiquing(
                parts.record, parts.explainer, lvlm, parts.datasets, completing, parts.board, parts.lease, stopping
            ),
            MeteredConsuming(parts.record, completing, parts.lease),
            Training(parts.record, parts.explainer, completing, parts.board, MeteredRun(run), parts.lease, tracker),
            read_submission_json,
        ),
        stopping.wait,
    )
    quiet = timedelta(seconds=settings.recovery_interval_s)
    recovering = Recovering(parts.record, parts.queue, completing, parts.lease, quiet)
    signals.worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    threading.Thread(
        target=_recover_for_ever, args=(recovering, parts.record, quiet), daemon=True, name="recovery"
    ).start()
    if settings.worker_pulse:
        beat(parts.app, settings.worker_pulse)
    if settings.worker_once:
        end_after_one_message(parts.app, settings.worker_idle_s)
    try:
        with export_traces("trainer-worker", settings.otlp_endpoint), serve_page(settings.worker_metrics_listen):
            parts.app.worker_main(
                [
                    "worker",
                    "--pool=threads",
                    f"--concurrency={1 if settings.worker_once else settings.worker_threads}",
                    f"--queues={','.join(QUEUES_BY_NAME[settings.worker_queues])}",
                    "--without-gossip",
                    "--without-mingle",
                    "--without-heartbeat",
                    "--loglevel=INFO",
                ]
            )
    finally:
        tracker.close()
    if not (stopping.is_set() or settings.worker_once):
        # Celery returns, and says so in its log, where it can't go on. Whoever keeps this process running must see that it failed.
        raise SystemExit(1)


def _recover_for_ever(recovering: Recovering, record: AuditedRecord, interval: timedelta) -> None:
    while True:
        time.sleep(interval.total_seconds())
        # In this order: the first look over a long record takes minutes, for which no job should wait.
        _try("recovery", recovering.recover)
        _try("settling the audit log", record.settle)


def _try(what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except ServiceError as error:
        log.warning("%s failed", what, extra={"kind": error.kind})
    except Exception:  # the next round may do better, and a worker must not lose its recovery unseen
        log.exception("%s failed", what)
