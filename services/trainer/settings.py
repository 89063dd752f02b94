"""Settings of the trainer's API and workers, from variables TRAINER_*."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.runtime.broker import BrokerSettings


class TrainerSettings(BrokerSettings):
    """What the trainer needs to know."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="TRAINER_")

    store_root: str
    """Root of the artifact store, the record: a folder, or s3://bucket/prefix with endpoint and credentials from the AWS variables and files."""
    data_root: Path
    """Root of the data sets."""
    explainer_address: str
    """host:port of the explainer."""
    lvlm_address: str
    """host:port of the LVLM service."""
    explainer_timeout_s: float = 120.0
    """Longest time for one call to the explainer, seconds."""
    publish_timeout_s: float = 180.0
    """Longest time for a publication, seconds."""
    lvlm_timeout_s: float = 600.0
    """Longest time for one call to the LVLM service, seconds."""
    worker_metrics_listen: str = Field(default="", pattern=r"^$|^\S+:\d+$")
    """`metrics_listen` of a worker, which may share its machine with the API; empty for none."""
    worker_threads: int = 2
    """Messages that a worker handles at once: one job's step, and critiques that come in meanwhile."""
    worker_queues: Literal["all", "critiques", "jobs"] = "all"
    """What a worker takes: critiques, the steps of jobs, or both. Somebody must take each."""
    worker_once: bool = False
    """Whether a worker ends after one message, one at a time, or when none came in `worker_idle_s`: for pods that are started for what waits."""
    worker_idle_s: float = Field(default=60.0, gt=0)
    """How long such a worker waits for its message, seconds."""
    worker_pulse: Path | None = None
    """A file that a worker touches while it takes messages, for `services.trainer.probe`; none is touched without."""
    training_threads: int = 1
    """Threads of a training process."""
    training_processes: int = Field(default=1, ge=1, le=32)
    """Processes that share a training, each with its part of every batch; 32 is how many critiqued pictures a batch has."""
    training_device: Literal["cpu", "cuda"] = "cpu"
    """Where a training computes; with cuda each of its processes takes a GPU of its own."""
    training_timeout_s: float = 5 * 3600.0
    """Longest time for one training, seconds; less than the broker's visibility timeout of 6 hours."""
    checkpoint_interval_s: float = 60.0
    """How much of a training may be lost when its process is killed, seconds: so often it writes from where it can go on."""
    lease_s: float = 30.0
    """How long a worker that died blocks its job, seconds."""
    max_open_jobs_per_submitter: int = Field(default=0, ge=0)
    """Jobs of one submitter that may be open at once; 0 sets no limit. API and workers file jobs, so both need it. It keeps order among people of
    good will: without TLS who submits is believed as it comes."""
    tracking: Literal["none", "tensorboard", "mlflow"] = "none"
    """Where workers show the numbers of trainings as curves; other than none needs pip install 'plumbline[tracking]'."""
    tracking_location: str = ""
    """The folder of TensorBoard's files, or MLflow's tracking URI (http://host:port, sqlite:///file); credentials of a server come from MLflow's
    own variables."""
    tracking_timeout_s: int = Field(default=10, ge=1)
    """Longest time for one request to an MLflow server, seconds."""
    recovery_interval_s: float = 60.0
    """How often a worker looks for jobs that nobody works on, seconds. A job is left alone that long after its last change."""

    @model_validator(mode="after")
    def _ask_for_broker(self) -> Self:
        if not self.has_broker:
            raise ValueError(
                "TRAINER_BROKER_URL: not set; expected redis://host:port/db, here or in TRAINER_BROKER_URL_FILE"
            )
        return self

    @model_validator(mode="after")
    def _ask_for_location(self) -> Self:
        if self.tracking != "none" and not self.tracking_location:
            raise ValueError(
                f"TRAINER_TRACKING_LOCATION: empty; TRAINER_TRACKING={self.tracking} needs a folder or a URI"
            )
        return self
