"""Builds the LVLM service from its settings: the only place where its real parts are made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import grpc
import torch
import transformers

from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.runtime.server import serve
from services.common.vision.preprocessing import ImageLimits
from services.lvlm.adapters.celery_sink import CelerySink
from services.lvlm.adapters.openai_engine import OpenAiEngine, ServerLimits
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.transformers_engine import TransformersEngine
from services.lvlm.handlers.describing import Describing
from services.lvlm.handlers.translating import Translating
from services.lvlm.servicer import SERVICE, LvlmServicer
from services.lvlm.settings import NANO, LvlmSettings


async def run(settings: LvlmSettings) -> None:
    """Serve until told to stop."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(settings.threads)
    profile = load_profile(settings.profile)
    sink = CelerySink(settings.broker_url) if settings.broker_url else None
    async with build_engine(settings) as engine:
        servicer = LvlmServicer(
            Translating(engine, profile, sink, settings.seed),
            Describing(engine, profile, settings.seed),
            ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_request_pixels),
        )

        def register(server: grpc.aio.Server) -> None:
            rpc.add_LvlmServiceServicer_to_server(servicer, server)

        await serve(settings, [SERVICE], register)


def build_engine(settings: LvlmSettings) -> TransformersEngine | OpenAiEngine:
    """The engine that the settings ask for."""
    if settings.engine == "openai":
        key = settings.api_key_file.read_text().strip() if settings.api_key_file else ""
        limits = ServerLimits(
            **{limit.name: getattr(settings, limit.name) for limit in dataclasses.fields(ServerLimits)}
        )
        return OpenAiEngine(settings.base_url, settings.model, key, limits)
    folder = NANO if settings.model == "nano" else Path(settings.model)
    model_id = "plumbline/nano" if settings.model == "nano" else folder.name
    return TransformersEngine(folder, model_id, settings.max_batch, settings.max_waiting, settings.answer_timeout_s)
