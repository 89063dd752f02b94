"""Settings of the explainer, from variables EXPLAINER_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.runtime.settings import ServiceSettings


class ExplainerSettings(ServiceSettings):
    """What the explainer needs to know."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="EXPLAINER_")

    triton_address: str
    """host:port of Triton's gRPC interface."""
    model_repository: Path
    """The folder that Triton loads models from, as this process sees it."""
    store_root: str
    """Root of the artifact store, where published bundles come from: a folder, or s3://bucket/prefix with endpoint and credentials from the AWS
    variables and files."""
    is_gpu: bool = False
    """Whether new models run on Triton's GPU."""
    call_timeout_s: float = 60.0
    """Longest time for one call, seconds; the caller's deadline can only shorten it."""
    publish_timeout_s: float = 120.0
    """How long Triton may take to load a version, seconds."""
    reconcile_interval_s: float = 1.0
    """How often Triton is held against the repository, seconds."""
    max_image_bytes: int = 16 * 2**20
    """Largest encoded picture taken in a message."""
    max_upload_bytes: int = 128 * 2**20
    """Largest encoded picture taken in pieces: holds any single picture of the most pixels as it is, uncompressed."""
    max_image_pixels: int = 32_000_000
    """Most pixels a picture may have."""
    max_request_pixels: int = 100_000_000
    """Most pixels that the pictures of one request may have together: three of the largest, or 256 of 600×600. Decoded they take three
    bytes each, 300 MB, and several requests at a time must fit the service's 2 GiB."""
    shadow_share: float = Field(default=0.1, ge=0, le=1)
    """The part of the champion's requests that a shadow version answers too, 0 to 1; each costs another inference."""
    shadow_max_pixels: int = 16_000_000
    """Most pixels of pictures that may wait for a shadow, three bytes each; what does not fit is dropped and counted."""
    shadow_timeout_s: float = 10.0
    """Longest time for a shadow's answer to one request, seconds."""
    segmentation_threads: int = 1
    """Threads of one segmentation."""
