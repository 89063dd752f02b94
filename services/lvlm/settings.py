"""Settings of the LVLM service, from variables LVLM_*."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from services.common.runtime.broker import BrokerSettings

NANO = Path(__file__).parent / "nano" / "model"


class LvlmSettings(BrokerSettings):
    """What the LVLM service needs to know. Critique batches are delivered to the broker; without one requests with a job_id are refused."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="LVLM_")

    engine: Literal["transformers", "openai", "recorded"] = "transformers"
    """`transformers`: a model folder in this process; `openai`: an OpenAI-compatible server; `recorded`: answers of an earlier run."""
    model: str = "nano"
    """`nano` (embedded), a folder path, or the server's name for its model."""
    base_url: str = ""
    """Base of the OpenAI-compatible server, ending in /v1. Needed by `openai`."""
    api_key_file: Path | None = None
    """File that holds the server's key."""
    recording: Path | None = None
    """Folder of recorded answers. Needed by `recorded`."""
    record_to: Path | None = None
    """Folder to which the engine's answers are recorded; without it nothing is."""
    prompt_profile: str = ""
    """Name of an embedded profile, or a folder. Default: `nano` for nano, else `general`."""
    coordinates: str = ""
    """How the model writes boxes: qwen3_vl, qwen2_5_vl, internvl, gemini, paligemma, florence2 or nano. Default: as the profile says.
    The profile's prompt `ground` must ask for the same; qwen2_5_vl and qwen3_vl look alike and mean different places."""
    segmenter: Path | None = None
    """Folder of a Segment Anything model that turns boxes into pixels; without it superpixels do."""
    answer_timeout_s: float = 120.0
    """Longest time for one answer of the engine, seconds: in process the wait for its turn counts, of a server the retries do."""
    max_batch: int = 32
    """Most questions answered in one go in process."""
    max_batch_tokens: int = 32_768
    """Most tokens of questions answered in one go in process, with pictures, padding and answers: this bounds the memory."""
    max_waiting: int = 1024
    """Most questions that wait for the engine."""
    max_in_flight: int = 16
    """Most calls to the server at once."""
    connect_timeout_s: float = 5.0
    """Longest time for a connection to the server, seconds."""
    max_retries: int = 2
    """How often a call is made again when the server is away, fails or is busy."""
    retry_pause_s: float = 0.5
    """Pause before the first retry, seconds, give or take a half; it doubles each time. A longer Retry-After is honoured."""
    breaker_failures: int = 5
    """After so many failed calls in a row the server is let be, and questions are refused at once."""
    breaker_pause_s: float = 30.0
    """How long it is let be before one call tries it again, seconds."""
    threads: int = 1
    """Threads of the model in process."""
    seed: int = 0
    """Seed handed to the engine."""
    max_image_bytes: int = 16 * 2**20
    """Largest encoded picture taken."""
    max_image_pixels: int = 32_000_000
    """Most pixels a picture may have."""
    max_request_pixels: int = 100_000_000
    """Most pixels that the pictures of one request may have together; decoded they take three bytes each, and one more for each of their segments."""

    @model_validator(mode="after")
    def _check_engine(self) -> LvlmSettings:
        if self.engine == "openai" and not self.base_url:
            raise ValueError("base_url: the openai engine needs LVLM_BASE_URL")
        if self.engine == "recorded" and not self.recording:
            raise ValueError("recording: the recorded engine needs LVLM_RECORDING")
        return self

    @property
    def profile(self) -> str:
        """The prompt profile to use."""
        return self.prompt_profile or ("nano" if self.model == "nano" else "general")
