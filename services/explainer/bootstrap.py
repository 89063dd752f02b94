"""Builds the explainer from its settings: the only place where its real parts are made."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import torch
import transformers

from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common.runtime.audit_log import AuditLog
from services.common.runtime.metrics import serve_metrics
from services.common.runtime.open_store import open_store
from services.common.runtime.readiness import Readiness
from services.common.runtime.server import serve
from services.common.runtime.traces import export_traces
from services.common.vision.preprocessing import ImageLimits
from services.explainer import metrics
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.adapters.metered_classifier import MeteredClassifier
from services.explainer.adapters.model_gauges import ModelGauges
from services.explainer.adapters.queued_classifier import QueuedClassifier
from services.explainer.adapters.triton_classifier import TritonClassifier
from services.explainer.handlers.announcing import Announcing, keep_settled
from services.explainer.handlers.explaining import Explaining
from services.explainer.handlers.explaining_batches import ExplainingBatches
from services.explainer.handlers.explaining_uploads import ExplainingUploads
from services.explainer.handlers.importing import Importing
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.reconciling import Reconciling
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.segmenting import Segmenting
from services.explainer.handlers.setting_shadow import SettingShadow
from services.explainer.handlers.shadowing import Shadowing, ShadowOptions
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from services.explainer.servicer import SERVICE, ExplainerServicer
from services.explainer.settings import ExplainerSettings


async def run(settings: ExplainerSettings) -> None:
    """Serve until told to stop."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(settings.segmentation_threads)
    triton = TritonClassifier(settings.triton_address, settings.publish_timeout_s, settings.is_gpu)
    classifier = MeteredClassifier(QueuedClassifier(triton))
    repository = FolderRepository(settings.model_repository)
    versions = LiveVersions(repository)
    store = open_store(settings.store_root)
    announcing = Announcing(AuditLog(store), repository)
    verifying = Verifying(classifier, settings.publish_timeout_s)
    publishing = Publishing(classifier, repository, store, announcing, versions, verifying, settings.publish_timeout_s)
    readiness = Readiness(is_ready=False)
    reconciling = Reconciling(classifier, repository, versions, verifying, readiness)
    options = ShadowOptions(settings.shadow_share, settings.shadow_max_pixels, settings.shadow_timeout_s)
    shadowing = Shadowing(classifier, repository, versions, options)
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_request_pixels)
    segmenting = Segmenting()
    metrics.SEGMENTATION_WAITING.set_function(lambda: segmenting.waiting_count)
    explaining = Explaining(classifier, versions, shadowing, segmenting)
    servicer = ExplainerServicer(
        explaining,
        ExplainingBatches(explaining, limits, settings.call_timeout_s),
        ExplainingUploads(explaining, replace(limits, max_bytes=settings.max_upload_bytes), settings.call_timeout_s),
        publishing,
        Importing(publishing, store, limits),
        RollingBack(repository, publishing),
        SettingShadow(classifier, repository, announcing, settings.publish_timeout_s),
        shadowing,
        classifier,
        repository,
        limits,
        settings.call_timeout_s,
        settings.max_message_bytes,
    )

    def register(server: grpc.aio.Server) -> None:
        rpc.add_ExplainerServiceServicer_to_server(servicer, server)

    keepers = [
        asyncio.create_task(reconciling.keep(settings.reconcile_interval_s)),
        asyncio.create_task(keep_settled(announcing, repository, settings.reconcile_interval_s)),
        asyncio.create_task(shadowing.keep_comparing()),
    ]
    try:
        with export_traces("explainer", settings.otlp_endpoint):
            async with serve_metrics(settings.metrics_listen, {"models": ModelGauges(classifier, repository).look}):
                await serve(settings, [SERVICE], register, readiness)
    finally:
        try:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
        finally:
            await triton.close()
