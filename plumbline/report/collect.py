"""Ask the services for everything that a job's report shows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.client import Client, NamedImage, explained_images, is_too_much
from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.messages import detach
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

DESCRIBED_PER_CLASS = 12
MAX_DESCRIBED = 256  # enough to say what decides, and soon described
SHOWN_COUNT = 10


@dataclass(frozen=True)
class VersionView:
    """One version on the pictures that the job critiqued: behaviour in words, and explanations with overlays of a few."""

    version: int
    digest: str
    classes: Sequence[lvlm_pb.ClassBehavior]
    explanations: Sequence[explainer_pb.Explanation]


@dataclass(frozen=True)
class JobReport:
    """All that the page needs."""

    job: trainer_pb.Alignment
    metrics: dict[str, Any]
    critiqued: Sequence[trainer_pb.CritiquedImage]
    shown: Sequence[trainer_pb.CritiquedImage]
    described: Sequence[trainer_pb.CritiquedImage]
    before: VersionView | None
    after: VersionView | None
    models: Sequence[explainer_pb.ServedModel]


def collect(client: Client, job_id: str) -> JobReport:
    """Everything about a job; of one that has not ended, what there is so far.

    Raises
    ------
    PlumblineError
        When there is no such job or a service is away.
    """
    job = client.job(job_id)
    critiqued = list(client.critiques(job_id, with_pictures=False))
    class_count = max(1, len(_by_class(critiqued)))
    shown = _pick(critiqued, max(1, SHOWN_COUNT // class_count))[:SHOWN_COUNT]
    described = _pick(critiqued, max(1, min(DESCRIBED_PER_CLASS, MAX_DESCRIBED // class_count)))[:MAX_DESCRIBED]
    shown, described = _with_pictures(client, job_id, shown, described)
    before = after = None
    if critiqued:
        before = _view(client, job.model.name, job.model.version, described, shown)
        if job.published.version:
            after = _view(client, job.model.name, job.published.version, described, shown)
    return JobReport(
        job=job,
        metrics=json.loads(job.metrics_json) if job.metrics_json else {},
        critiqued=critiqued,
        shown=shown,
        described=described,
        before=before,
        after=after,
        models=client.models(job.model.name),
    )


def _view(
    client: Client,
    name: str,
    version: int,
    described: Sequence[trainer_pb.CritiquedImage],
    shown: Sequence[trainer_pb.CritiquedImage],
) -> VersionView:
    images = [_named(picture) for picture in described]
    model, explanations = client.explain(name, images, version)
    explained = explained_images(images, explanations)
    if not explained:
        raise PlumblineError(f"version {version} of {name} shows no positive evidence on any picture")
    behaviour = _describe(client, model, explained)
    _, overlays = client.explain(name, [_named(picture) for picture in shown], version, with_overlay=True)
    return VersionView(version, model.digest, behaviour.classes, overlays)


def _describe(
    client: Client, model: vision_pb2.ModelVersion, explained: Sequence[lvlm_pb.ExplainedImage]
) -> lvlm_pb.DescribeBehaviorResponse:
    """Behaviour in words; of every other picture, and so on, where they hold more than a request may: films are large."""
    try:
        return client.describe(model, explained)
    except PlumblineError as error:
        if len(explained) == 1 or not is_too_much(error):
            raise
    # They stand class by class: of each as many are left out.
    return _describe(client, model, explained[::2])


def _with_pictures(
    client: Client, job_id: str, *picked: Sequence[trainer_pb.CritiquedImage]
) -> list[list[trainer_pb.CritiquedImage]]:
    """Each of `picked` with the pictures' files; of the others none stays."""
    wanted = {picture.critique.image_digest for part in picked for picture in part}
    held = {
        picture.critique.image_digest: detach(picture)
        for picture in client.critiques(job_id)
        if picture.critique.image_digest in wanted
    }
    return [[held[picture.critique.image_digest] for picture in part] for part in picked]


def _pick(critiqued: Sequence[trainer_pb.CritiquedImage], per_class: int) -> list[trainer_pb.CritiquedImage]:
    """The first `per_class` of each class; their order is that of digests, which means nothing, so this is no choice."""
    by_class = _by_class(critiqued)
    return [picture for label in sorted(by_class) for picture in by_class[label][:per_class]]


def _by_class(critiqued: Sequence[trainer_pb.CritiquedImage]) -> dict[str, list[trainer_pb.CritiquedImage]]:
    groups: dict[str, list[trainer_pb.CritiquedImage]] = defaultdict(list)
    for picture in critiqued:
        groups[picture.critique.true_label].append(picture)
    return groups


def _named(picture: trainer_pb.CritiquedImage) -> NamedImage:
    return picture.image.id, picture.image.data
