"""A job's stored critiques judged again.

The pictures are those that the job's record keeps, byte for byte what was judged; a data set may have changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from plumbline.chunks import call_in_parts, in_chunks
from plumbline.client import REPLAY_CHUNK, Client, is_too_much
from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.messages import detach
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb


@dataclass(frozen=True)
class ReplayedImage:
    """A stored critique beside today's; `differences` names what differs in how they came about."""

    stored: critique_pb2.Critique
    today: critique_pb2.Critique
    changed_segments: tuple[int, ...]
    is_same: bool
    differences: tuple[str, ...]


@dataclass(frozen=True)
class JobReplay:
    """What came of a job's critiques; `left_out` names the pictures whose critiques hold no segments: there is nothing to judge."""

    images: tuple[ReplayedImage, ...]
    left_out: tuple[str, ...]

    @property
    def broken(self) -> tuple[ReplayedImage, ...]:
        """Those that changed although nothing differs in how they came about."""
        return tuple(image for image in self.images if not image.is_same and not image.differences)


def replay_job(client: Client, job_id: str) -> JobReplay:
    """Judge again what a job's critiques judged, by the job's own specification, rules and way to masks.

    Raises
    ------
    PlumblineError
        When there is no such job, a service is away, or a picture is not the one that was judged; names the picture.
    """
    job = client.job(job_id)
    critiqued = list(client.critiques(job_id, with_pictures=False))
    judged = [picture for picture in critiqued if picture.critique.verdicts]
    images = tuple(
        image
        for provenance in _provenances(judged)
        for image in _replay_alike(client, job, provenance, _judged_so(client, job_id, provenance))
    )
    left_out = tuple(picture.image.id for picture in critiqued if not picture.critique.verdicts)
    return JobReplay(images, left_out)


def _provenances(critiqued: Sequence[trainer_pb.CritiquedImage]) -> list[critique_pb2.Provenance]:
    """How the critiques came about, each way once: a request says it once for all of its own, and a job may hold a service's and a person's."""
    found = {_provenance_key(picture): picture.provenance for picture in critiqued}
    return [found[key] for key in sorted(found)]


def _judged_so(client: Client, job_id: str, provenance: critique_pb2.Provenance) -> Iterator[trainer_pb.CritiquedImage]:
    """Those with a verdict that came about so, with their pictures' files, a page at a time."""
    for picture in client.critiques(job_id):
        if picture.critique.verdicts and picture.provenance == provenance:
            yield picture


def _provenance_key(picture: trainer_pb.CritiquedImage) -> bytes:
    return picture.provenance.SerializeToString(deterministic=True)


def _replay_alike(
    client: Client,
    job: trainer_pb.Alignment,
    provenance: critique_pb2.Provenance,
    critiqued: Iterable[trainer_pb.CritiquedImage],
) -> list[ReplayedImage]:
    def ask(part: Sequence[trainer_pb.CritiquedImage]) -> list[ReplayedImage]:
        request = lvlm_pb.ReplayCritiquesRequest(
            specification=job.specification,
            images=[_explained(picture) for picture in part],
            critiques=[picture.critique for picture in part],
            provenance=provenance,
            mask_source=job.mask_source,
            rules=job.rules,
            model=job.model,
        )
        reply = client.replay(request)
        differences = tuple(reply.differences)
        return [_pair(*pair, differences) for pair in zip(part, reply.critiques, strict=True)]

    chunks = in_chunks(critiqued, REPLAY_CHUNK, trainer_pb.CritiquedImage.ByteSize)
    return [image for chunk in chunks for part in call_in_parts(ask, chunk, is_too_much) for image in part]


def _pair(
    stored: trainer_pb.CritiquedImage, replayed: lvlm_pb.ReplayedCritique, differences: tuple[str, ...]
) -> ReplayedImage:
    return ReplayedImage(
        detach(stored.critique), replayed.critique, tuple(replayed.changed_segments), replayed.is_same, differences
    )


def _explained(picture: trainer_pb.CritiquedImage) -> lvlm_pb.ExplainedImage:
    segments = [
        vision_pb2.Segment(index=verdict.segment_index, share=verdict.share, mask=verdict.mask)
        for verdict in picture.critique.verdicts
    ]
    label = picture.critique.true_label
    return lvlm_pb.ExplainedImage(image=picture.image, target_label=label, true_label=label, segments=segments)
