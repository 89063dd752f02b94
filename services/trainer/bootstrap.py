"""Builds the trainer's API and its worker from the settings: the only place where their real parts are made."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import celery
import grpc

from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.queues import CRITIQUES_QUEUE, JOBS_QUEUE
from services.common.runtime.server import serve
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.adapters.job_record import JobRecord
from services.trainer.adapters.lvlm_client import LvlmClient
from services.trainer.adapters.redis_progress import RedisProgress
from services.trainer.adapters.training_child import TrainingChild
from services.trainer.handlers.critiquing import Critiquing
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.training import Training
from services.trainer.handlers.watching import Watching
from services.trainer.messages import read_submission_json
from services.trainer.servicer import SERVICE, TrainerServicer
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import register_tasks


@dataclass(frozen=True)
class _Parts:
    """What API and worker share."""

    app: celery.Celery
    queue: CeleryQueue
    record: JobRecord
    datasets: DatasetFolder
    explainer: ExplainerClient
    board: RedisProgress

    @classmethod
    def build(cls, settings: TrainerSettings) -> _Parts:
        app = build_app(settings.broker_url)
        return cls(
            app,
            CeleryQueue(app),
            JobRecord(ArtifactStore(settings.store_root)),
            DatasetFolder(settings.data_root),
            ExplainerClient(settings.explainer_address, settings.explainer_timeout_s, settings.publish_timeout_s),
            RedisProgress(settings.broker_url),
        )

    def submitting(self) -> Submitting:
        return Submitting(self.record, self.explainer, self.datasets, self.queue)


async def run_api(settings: TrainerSettings) -> None:
    """Serve the gRPC API until told to stop."""
    parts = _Parts.build(settings)
    servicer = TrainerServicer(parts.submitting(), Watching(parts.record, parts.board))

    def register(server: grpc.aio.Server) -> None:
        rpc.add_TrainerServiceServicer_to_server(servicer, server)

    await serve(settings, [SERVICE], register)


def run_worker(settings: TrainerSettings) -> None:
    """Work off both queues until told to stop.

    Threads, not forks: gRPC does not survive a fork, and what is heavy (training) runs in a process of its own anyway.
    """
    for chatty in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # they log arguments, and those name pictures
    parts = _Parts.build(settings)
    lvlm = LvlmClient(settings.lvlm_address, settings.lvlm_timeout_s)
    run = TrainingChild(settings.store_root, settings.data_root, settings.training_threads)
    register_tasks(
        parts.app,
        parts.record,
        parts.submitting(),
        Critiquing(parts.record, parts.explainer, lvlm, parts.datasets, parts.queue, parts.board),
        Training(parts.record, parts.explainer, parts.board, run),
        read_submission_json,
    )
    parts.app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={settings.worker_threads}",
            f"--queues={CRITIQUES_QUEUE},{JOBS_QUEUE}",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
        ]
    )
