"""Builds the LVLM service from its settings: the only place where its real parts are made."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import grpc
import torch
import transformers

from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.runtime.metrics import serve_page
from services.common.runtime.server import serve
from services.common.runtime.traces import export_traces
from services.common.vision.preprocessing import ImageLimits
from services.lvlm.adapters.bounded_engine import BoundedEngine
from services.lvlm.adapters.celery_sink import CelerySink
from services.lvlm.adapters.metered_engine import MeteredEngine
from services.lvlm.adapters.openai_engine import OpenAiEngine, ServerLimits
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.recorded_engine import RecordedEngine, RecordingEngine
from services.lvlm.adapters.sam_segmenter import SamSegmenter
from services.lvlm.adapters.superpixel_segmenter import SuperpixelSegmenter
from services.lvlm.adapters.transformers_engine import BatchLimits, TransformersEngine
from services.lvlm.domain.coordinates.registry import find_family
from services.lvlm.domain.prompts import PromptProfile
from services.lvlm.handlers.compiling import Compiling
from services.lvlm.handlers.describing import Describing
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.handlers.translating import Translating
from services.lvlm.ports import Engine
from services.lvlm.servicer import SERVICE, LvlmServicer
from services.lvlm.settings import NANO, LvlmSettings

Limits = TypeVar("Limits", ServerLimits, BatchLimits)


async def run(settings: LvlmSettings) -> None:
    """Serve until told to stop."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(settings.threads)
    async with build_engine(settings) as engine:
        servicer = build_servicer(settings, engine)

        def register(server: grpc.aio.Server) -> None:
            rpc.add_LvlmServiceServicer_to_server(servicer, server)

        with export_traces("lvlm", settings.otlp_endpoint), serve_page(settings.metrics_listen):
            await serve(settings, [SERVICE], register)


def build_servicer(settings: LvlmSettings, engine: Engine) -> LvlmServicer:
    """All use cases on `engine`."""
    profile = load_profile(settings.profile)
    sink = CelerySink(settings.read_broker()) if settings.has_broker else None
    grounding = build_grounding(settings, engine, profile)
    return LvlmServicer(
        Translating(engine, profile, sink, settings.seed, grounding),
        Describing(engine, profile, settings.seed),
        Compiling(engine, profile, settings.seed),
        grounding,
        ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_request_pixels),
    )


def build_grounding(settings: LvlmSettings, engine: Engine, profile: PromptProfile) -> Grounding:
    """What looks for phrases, in the coordinates that settings or profile name."""
    family = find_family(settings.coordinates or profile.coordinates)
    segmenter = SamSegmenter(settings.segmenter) if settings.segmenter else SuperpixelSegmenter()
    return Grounding(engine, profile, family, segmenter, settings.seed)


@contextlib.asynccontextmanager
async def build_engine(settings: LvlmSettings) -> AsyncIterator[Engine]:
    """The engine that the settings ask for, opened, its answers bounded and counted, and recorded when they say so."""
    async with _choose_engine(settings) as unbounded:
        engine = MeteredEngine(BoundedEngine(unbounded))
        if settings.record_to is None:
            yield engine
            return
        with RecordingEngine(engine, settings.record_to) as recording:
            yield recording


def _choose_engine(settings: LvlmSettings) -> TransformersEngine | OpenAiEngine | RecordedEngine:
    if settings.engine == "recorded":
        return RecordedEngine(settings.recording)
    if settings.engine == "openai":
        key = settings.api_key_file.read_text().strip() if settings.api_key_file else ""
        return OpenAiEngine(settings.base_url, settings.model, key, _pick(ServerLimits, settings))
    folder = NANO if settings.model == "nano" else Path(settings.model)
    model_id = "plumbline/nano" if settings.model == "nano" else folder.name
    return TransformersEngine(folder, model_id, _pick(BatchLimits, settings))


def _pick(limits: type[Limits], settings: LvlmSettings) -> Limits:
    """The settings that `limits`, a dataclass, has fields for."""
    return limits(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(limits)})
