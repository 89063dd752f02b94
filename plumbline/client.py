"""The three services from Python: typed calls with deadlines and readable errors.

client = Client(explainer="127.0.0.1:7001", lvlm="127.0.0.1:7002", trainer="127.0.0.1:7003")
reply = client.explain("digits", [("seven", Path("seven.png").read_bytes())])
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import groupby
from typing import Any, TypeVar

import grpc
import numpy as np

from plumbline.certificates import CertificateFiles
from plumbline.channels import open_channel
from plumbline.chunks import call_in_parts, in_chunks
from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError, from_rpc_error
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as explainer_rpc
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from plumbline.masks import encode_rle
from plumbline.pictures import PictureError, PictureLimits, read_picture_size
from plumbline.trainer.v1 import audit_service_pb2 as audit_pb
from plumbline.trainer.v1 import audit_service_pb2_grpc as audit_rpc
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from plumbline.uploads import read_upload, send_upload

MAX_MESSAGE_BYTES = 64 * 2**20
UPLOAD_FROM_BYTES = 16 * 2**20
"""A larger file goes in pieces: services take no more in a message by default."""
UPLOAD_FROM_PIXELS = MAX_MESSAGE_BYTES // 8
"""So does one of more pixels, whose map takes over half of a message, four bytes each."""
EXPLAIN_CHUNK = 64
PREDICT_CHUNK = 256
GROUND_CHUNK = 32
REPLAY_CHUNK = 32
CRITIQUE_PAGE = 200
_CALL_TIMEOUT_S = 120.0
_PUBLISH_TIMEOUT_S = 300.0
_IMPORT_TIMEOUT_S = 900.0
"""Maps of a large net by one core take minutes."""
_DESCRIBE_TIMEOUT_S = 2.0
"""For each picture."""
_EXPLAIN_TIMEOUT_S = 60.0
"""For each picture of a batch: what the explainer itself allows by default."""
_UPLOAD_TIMEOUT_S = 300.0
"""To wait, to be received, explained and answered, each of which the explainer allows a minute."""
_AWAY_S, _ASK_AGAIN_S = 60.0, 1.0
"""How long a trainer may be away from a job that is followed, and how often it is asked meanwhile."""
_CALLER_KEY = "plumbline-caller-bin"
_REFUSED = re.compile(r"images\[(\d+)\]")
_LOOPBACK = ("127.", "localhost:", "[::1]:")

Reply = TypeVar("Reply")
NamedImage = tuple[str, bytes]
"""A picture's name and its encoded file."""


class Client(AbstractContextManager):
    """Calls to the services at three addresses (host:port). Every call has a deadline and raises `PlumblineError`.

    `caller` is who asks, for the audit log, where there are no `certificates` to prove it. With them calls are made under mutual TLS.
    """

    def __init__(
        self,
        explainer: str,
        lvlm: str,
        trainer: str,
        caller: str = "",
        certificates: CertificateFiles | None = None,
    ) -> None:
        self._channels = [_open_channel(address, certificates) for address in (explainer, lvlm, trainer)]
        self._explainer = explainer_rpc.ExplainerServiceStub(self._channels[0])
        self._lvlm = lvlm_rpc.LvlmServiceStub(self._channels[1])
        self._trainer = trainer_rpc.TrainerServiceStub(self._channels[2])
        self._audit = audit_rpc.AuditServiceStub(self._channels[2])
        self._metadata = ((_CALLER_KEY, caller.encode(errors="replace")),) if caller else ()

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def models(self, name: str = "") -> Sequence[explainer_pb.ServedModel]:
        """Served versions, of one model or of all."""
        return self._call("explainer", self._explainer.ListModels, explainer_pb.ListModelsRequest(name=name)).models

    def publish(
        self, name: str, bundle_path: str, expected_champion: int, key: str, as_shadow: bool = False
    ) -> vision_pb2.ModelVersion:
        """Serve a bundle of the artifact store as the next version of `name`, its champion or its shadow."""
        request = explainer_pb.PublishModelRequest(
            name=name,
            bundle_path=bundle_path,
            expected_champion_version=expected_champion,
            idempotency_key=key,
            as_shadow=as_shadow,
        )
        return self._call("explainer", self._explainer.PublishModel, request, _PUBLISH_TIMEOUT_S).model

    def import_model(
        self, name: str, folder_path: str, pictures: Sequence[NamedImage], expected_champion: int, key: str
    ) -> explainer_pb.ImportModelResponse:
        """Check a Hugging Face folder of the artifact store and serve it as the next version of `name`.

        2 to 64 `pictures` become its baselines; none keeps the folder's own.
        """
        request = explainer_pb.ImportModelRequest(
            name=name,
            folder_path=folder_path,
            pictures=_images(pictures, frame=0),
            expected_champion_version=expected_champion,
            idempotency_key=key,
        )
        return self._call("explainer", self._explainer.ImportModel, request, _IMPORT_TIMEOUT_S)

    def roll_back(
        self, name: str, expected_champion: int, reason: str, key: str, version: int = 0
    ) -> explainer_pb.RollBackModelResponse:
        """Serve the weights of `version` (0: of the newest before the champion that has others) again as the next version of `name`."""
        request = explainer_pb.RollBackModelRequest(
            name=name, version=version, expected_champion_version=expected_champion, reason=reason, idempotency_key=key
        )
        return self._call("explainer", self._explainer.RollBackModel, request, _PUBLISH_TIMEOUT_S)

    def set_shadow(self, name: str, version: int) -> vision_pb2.ModelVersion:
        """Compare `version` of `name` with its champion in the background from now on; 0 ends that."""
        request = explainer_pb.SetShadowRequest(name=name, version=version)
        return self._call("explainer", self._explainer.SetShadow, request).shadow

    def shadow(self, name: str) -> explainer_pb.GetShadowResponse:
        """How the shadow of `name` compares with its champion."""
        return self._call("explainer", self._explainer.GetShadow, explainer_pb.GetShadowRequest(name=name))

    def predict(
        self, name: str, images: Sequence[NamedImage], version: int = 0, frame: int = 0
    ) -> list[vision_pb2.Prediction]:
        """Predictions of any number of pictures, in order; version 0 is the champion, frame 0 a file's only one."""

        def ask(chunk: Sequence[NamedImage]) -> Sequence[vision_pb2.Prediction]:
            request = explainer_pb.PredictRequest(model=_version(name, version), images=_images(chunk, frame))
            return self._call("explainer", self._explainer.Predict, request).predictions

        return _ask_all(ask, images, PREDICT_CHUNK)

    def explain(
        self,
        name: str,
        images: Sequence[NamedImage],
        version: int = 0,
        target_label: str = "",
        method: str = "ATTRIBUTION_METHOD_UNSPECIFIED",
        with_overlay: bool = False,
        frame: int = 0,
        contrast_label: str = "",
        with_faithfulness: bool = False,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[vision_pb2.ModelVersion, list[explainer_pb.Explanation]]:
        """Explanations of any number of pictures, in order, and which version gave them; frame 0 is a file's only one.

        With a `contrast_label` the maps are of what speaks for the target against that class. Large pictures go in pieces. With `masks`, a boolean (height, width)
        for each picture by its name, explanations say how much of their map lies in it (`localization`); large pictures can't have one.
        """
        missing = [image_name for image_name, _ in images if masks and image_name not in masks]
        if missing:
            raise PlumblineError(
                f"masks: expected one for each picture; {missing[0]} has none", "INVALID_ARGUMENT", "masks"
            )
        asked = explainer_pb.ExplainRequest(
            model=_version(name, version),
            target_label=target_label,
            method=method,
            with_overlay=with_overlay,
            contrast_label=contrast_label,
            with_faithfulness=with_faithfulness,
        )

        def ask(chunk: Sequence[NamedImage]) -> Sequence[explainer_pb.Explanation]:
            held_against = [_mask(masks[name]) for name, _ in chunk] if masks else []
            request = explainer_pb.ExplainRequest(images=_images(chunk, frame), masks=held_against)
            request.MergeFrom(asked)
            return read(self._call("explainer", self._explainer.Explain, request))

        def read(reply: explainer_pb.ExplainResponse) -> Sequence[explainer_pb.Explanation]:
            # The champion may change between calls: later ones ask for the version that answered the first.
            asked.model.CopyFrom(reply.model)
            return reply.explanations

        def send(image: NamedImage) -> Sequence[explainer_pb.Explanation]:
            if masks:
                raise PlumblineError(f"{image[0]}: too large to be held against a mask", "INVALID_ARGUMENT", "masks")
            try:
                return read(self.explain_upload(asked, image, frame))
            except PlumblineError as error:
                raise PlumblineError(f"{image[0]}: {error}", error.code, error.field) from error

        explanations: list[explainer_pb.Explanation] = []
        for is_large, alike in groupby(images, lambda image: is_large_picture(image[1])):
            if is_large:
                explanations += [explanation for image in alike for explanation in send(image)]
            else:
                explanations += _ask_all(ask, list(alike), EXPLAIN_CHUNK)
        return asked.model, explanations

    def explain_upload(
        self, asked: explainer_pb.ExplainRequest, image: NamedImage, frame: int = 0
    ) -> explainer_pb.ExplainResponse:
        """The explanation of one picture, sent and answered in pieces: for files and maps that are larger than a message."""

        def send(timeout_s: float) -> explainer_pb.ExplainResponse:
            messages = send_upload(asked, *image, frame)
            answers = self._explainer.ExplainUpload(messages, timeout=timeout_s, metadata=self._metadata)
            try:
                return read_upload(answers)
            finally:
                answers.cancel()

        return _within_rate("explainer", send, _UPLOAD_TIMEOUT_S)

    def explain_batch(
        self, asked: explainer_pb.ExplainRequest, images: Iterable[NamedImage], count: int, frame: int = 0
    ) -> Iterator[explainer_pb.ExplainBatchResponse]:
        """First how pictures are explained, then what became of each, in order, as soon as it is known.

        `images`, `count` of them, are taken by another thread, as fast as they are answered; the time allowed grows with their number.
        """

        def send() -> Iterator[explainer_pb.ExplainBatchRequest]:
            yield explainer_pb.ExplainBatchRequest(options=asked)
            for name, data in images:
                yield explainer_pb.ExplainBatchRequest(image=vision_pb2.Image(id=name, data=data, frame=frame))

        timeout_s = _CALL_TIMEOUT_S + _EXPLAIN_TIMEOUT_S * count
        answers = self._explainer.ExplainBatch(send(), timeout=timeout_s, metadata=self._metadata)
        try:
            yield from answers
        except grpc.RpcError as error:
            raise from_rpc_error(error, "explainer") from error
        finally:
            answers.cancel()

    def describe(
        self, model: vision_pb2.ModelVersion, images: Sequence[lvlm_pb.ExplainedImage]
    ) -> lvlm_pb.DescribeBehaviorResponse:
        """Behaviour in words, of up to 2048 explained pictures; the time allowed grows with their number."""
        request = lvlm_pb.DescribeBehaviorRequest(model=model, images=images)
        timeout_s = max(_PUBLISH_TIMEOUT_S, _DESCRIBE_TIMEOUT_S * len(images))
        return self._call("LVLM service", self._lvlm.DescribeBehavior, request, timeout_s)

    def compile(
        self, task: str, class_names: Sequence[str], sentences: Mapping[str, str]
    ) -> lvlm_pb.CompileSpecificationResponse:
        """Typed rules out of plain sentences per class (or "all"), for a person to confirm."""
        told = [lvlm_pb.ClassSentences(class_name=name, text=text) for name, text in sentences.items()]
        request = lvlm_pb.CompileSpecificationRequest(task=task, class_names=class_names, sentences=told)
        return self._call("LVLM service", self._lvlm.CompileSpecification, request, _PUBLISH_TIMEOUT_S)

    def ground(
        self, images: Sequence[NamedImage], phrases: Sequence[str], frame: int = 0
    ) -> list[lvlm_pb.GroundedPhrase]:
        """Where phrases lie in any number of pictures: each phrase in each picture, pictures outermost, in order; frame 0 is a file's only one."""

        def ask(chunk: Sequence[NamedImage]) -> Sequence[lvlm_pb.GroundedPhrase]:
            request = lvlm_pb.GroundPhrasesRequest(images=_images(chunk, frame), phrases=phrases)
            return self._call("LVLM service", self._lvlm.GroundPhrases, request, _PUBLISH_TIMEOUT_S).phrases

        return _ask_all(ask, images, GROUND_CHUNK)

    def translate(
        self,
        model: vision_pb2.ModelVersion,
        specification: vision_pb2.ClassSpecification,
        images: Sequence[lvlm_pb.ExplainedImage],
        mask_source: str = "MASK_SOURCE_UNSPECIFIED",
        rules: Sequence[vision_pb2.TypedRule] = (),
    ) -> lvlm_pb.TranslateSpecificationResponse:
        """Verdicts on the segments of up to 32 explained pictures with true labels; grounded and agreed masks need `rules`."""
        request = lvlm_pb.TranslateSpecificationRequest(
            model=model, specification=specification, images=images, mask_source=mask_source, rules=rules
        )
        return self._call("LVLM service", self._lvlm.TranslateSpecification, request, _PUBLISH_TIMEOUT_S)

    def replay(self, request: lvlm_pb.ReplayCritiquesRequest) -> lvlm_pb.ReplayCritiquesResponse:
        """Up to 32 stored critiques judged again; `plumbline.replay` does it for a whole job."""
        return self._call("LVLM service", self._lvlm.ReplayCritiques, request, _PUBLISH_TIMEOUT_S)

    def submit(self, request: trainer_pb.SubmitAlignmentRequest) -> trainer_pb.Alignment:
        """File an alignment job."""
        return self._call("trainer", self._trainer.SubmitAlignment, request).alignment

    def job(self, job_id: str) -> trainer_pb.Alignment:
        """A job as it stands."""
        return self._call(
            "trainer", self._trainer.GetAlignment, trainer_pb.GetAlignmentRequest(job_id=job_id)
        ).alignment

    def jobs(self, most: int = 50, states: Sequence[str] = (), submitter: str = "") -> Sequence[trainer_pb.Alignment]:
        """The newest jobs, newest first: of all, or of those at one of `states` ("JOB_STATE_FAILED") and of one submitter."""
        request = trainer_pb.ListAlignmentsRequest(page_size=most, states=states, submitter=submitter)
        return self._call("trainer", self._trainer.ListAlignments, request).alignments

    def watch(self, job_id: str, timeout_s: float) -> Iterator[trainer_pb.Alignment]:
        """The job at every change until it has ended. A trainer that goes away meanwhile, such as one that begins anew, is waited for a minute."""
        request = trainer_pb.WatchAlignmentRequest(job_id=job_id)
        end = time.monotonic() + timeout_s
        last, away_since = None, None
        while True:
            timeout_left_s = max(end - time.monotonic(), 0)
            replies = self._trainer.WatchAlignment(request, timeout=timeout_left_s, metadata=self._metadata)
            try:
                for reply in replies:
                    away_since = None
                    if reply.alignment != last:
                        last = reply.alignment
                        yield last
                return
            except grpc.RpcError as error:
                failure, now = from_rpc_error(error, "trainer"), time.monotonic()
                away_since = away_since or now
                is_missed = last is not None and failure.code == grpc.StatusCode.UNAVAILABLE.name
                if last is not None and failure.code == grpc.StatusCode.DEADLINE_EXCEEDED.name:
                    failure = PlumblineError(
                        f"job {job_id} has not ended in {timeout_s:.0f} s; it goes on", failure.code
                    )
                wait_s = failure.wait_s or (_ASK_AGAIN_S if is_missed and now - away_since < _AWAY_S else 0)
                if not wait_s or now + wait_s > end:
                    raise failure from error
            finally:
                replies.cancel()
            time.sleep(wait_s)

    def cancel(self, job_id: str, reason: str) -> trainer_pb.Alignment:
        """Cancel a job that has not ended."""
        request = trainer_pb.CancelAlignmentRequest(job_id=job_id, reason=reason)
        return self._call("trainer", self._trainer.CancelAlignment, request).alignment

    def retry(self, job_id: str, key: str) -> trainer_pb.Alignment:
        """File a new job with the request of one that is FAILED, CANCELLED or REJECTED; the same key files one."""
        request = trainer_pb.RetryAlignmentRequest(job_id=job_id, idempotency_key=key)
        return self._call("trainer", self._trainer.RetryAlignment, request).alignment

    def recover(self) -> int:
        """Put the jobs back in the queue that have not ended and that nobody works on; returns how many."""
        request = trainer_pb.RecoverAlignmentsRequest()
        return self._call("trainer", self._trainer.RecoverAlignments, request).recovered_count

    def critiques(self, job_id: str, with_pictures: bool = True) -> Iterator[trainer_pb.CritiquedImage]:
        """All critiques of a job. Their pictures' files come a page at a time: who keeps all of them at once keeps gigabytes, where they are films."""
        request = trainer_pb.ListCritiquesRequest(
            job_id=job_id, page_size=CRITIQUE_PAGE, without_pictures=not with_pictures
        )
        return self._list_all(self._trainer.ListCritiques, request, "images")

    def pictures(self, job_id: str) -> Iterator[trainer_pb.ChosenPicture]:
        """All pictures that a job has chosen to have critiqued, without their files."""
        request = trainer_pb.ListPicturesRequest(job_id=job_id)
        return self._list_all(self._trainer.ListPictures, request, "pictures")

    def push(self, batch_json: str) -> Sequence[trainer_pb.PushedCritique]:
        """Send a critique batch; what became of each critique, in order."""
        request = trainer_pb.PushCritiquesRequest(batch_json=batch_json)
        return self._call("trainer", self._trainer.PushCritiques, request).critiques

    def review(
        self, job_id: str, reviewer: str, decisions: Sequence[trainer_pb.PictureDecision]
    ) -> trainer_pb.ReviewCritiquesResponse:
        """Keep up to 1000 decisions on a job's critiques, all or none."""
        request = trainer_pb.ReviewCritiquesRequest(job_id=job_id, reviewer=reviewer, decisions=decisions)
        return self._call("trainer", self._trainer.ReviewCritiques, request)

    def finish_review(self, job_id: str, reviewer: str, accept_rest: bool = False) -> trainer_pb.Alignment:
        """Send a reviewed job to training."""
        request = trainer_pb.FinishReviewRequest(job_id=job_id, reviewer=reviewer, accept_rest=accept_rest)
        return self._call("trainer", self._trainer.FinishReview, request).alignment

    def audit_events(self, job_id: str = "", model_name: str = "") -> Iterator[audit_pb.AuditEvent]:
        """Events of the audit log, newest first: all, or those of a job and of a model."""
        request = audit_pb.ListAuditEventsRequest(job_id=job_id, model_name=model_name)
        return self._list_all(self._audit.ListAuditEvents, request, "events")

    def verify_audit(self, kept_number: int = 0, kept_hash: str = "") -> audit_pb.VerifyAuditResponse:
        """How far the audit log is as it was written; `kept_hash` is what was noted elsewhere of event `kept_number`."""
        request = audit_pb.VerifyAuditRequest(kept_number=kept_number, kept_hash=kept_hash)
        return self._call("trainer", self._audit.VerifyAudit, request, _PUBLISH_TIMEOUT_S)

    def live_version(self, model_name: str, at: datetime | None = None) -> audit_pb.FindLiveVersionResponse:
        """What was the champion of a model at a time, which has a zone; None means now."""
        request = audit_pb.FindLiveVersionRequest(model_name=model_name)
        if at is not None:
            request.at.FromDatetime(at)
        return self._call("trainer", self._audit.FindLiveVersion, request)

    def _list_all(self, method: Callable[..., Any], request: Any, field: str) -> Iterator[Any]:
        """What the trainer's answers hold in `field`, page after page from the first."""
        while True:
            reply = self._call("trainer", method, request)
            yield from getattr(reply, field)
            request.page_token = reply.next_page_token
            if not request.page_token:
                return

    def _call(
        self, service: str, method: Callable[..., Reply], request: object, timeout_s: float = _CALL_TIMEOUT_S
    ) -> Reply:
        size = request.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            # gRPC itself would say RESOURCE_EXHAUSTED and name nothing.
            given = {field.name for field, _ in request.ListFields()}
            field = next((name for name in ("images", "pictures") if name in given), "request")
            raise PlumblineError(
                f"{service}: {field}: {size} bytes; at most {MAX_MESSAGE_BYTES} are taken", "RESOURCE_EXHAUSTED", field
            )
        return _within_rate(service, lambda left_s: method(request, timeout=left_s, metadata=self._metadata), timeout_s)


def explained_images(
    images: Sequence[NamedImage], explanations: Sequence[explainer_pb.Explanation], frame: int = 0
) -> list[lvlm_pb.ExplainedImage]:
    """Pictures with their explanations, of the same `frame`, as the LVLM service takes them; those without a segment are left out."""
    return [
        lvlm_pb.ExplainedImage(
            image=vision_pb2.Image(id=name, data=data, frame=frame),
            target_label=explanation.target_label,
            segments=explanation.segments,
        )
        for (name, data), explanation in zip(images, explanations, strict=True)
        if explanation.segments
    ]


def _open_channel(address: str, certificates: CertificateFiles | None) -> grpc.Channel:
    options: list[tuple[str, object]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # A service's name may stand for many pods.
        ("grpc.lb_policy_name", "round_robin"),
    ]
    if address.startswith(_LOOPBACK):
        # A proxy that the environment names is for the world outside.
        options.append(("grpc.enable_http_proxy", 0))
    return open_channel(address, certificates, options)


def _within_rate(service: str, call: Callable[[float], Reply], timeout_s: float) -> Reply:
    """What `call` returns, given the seconds it has left; it waits where the service says that it is one call too many."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            return call(max(end - time.monotonic(), 0))
        except grpc.RpcError as error:
            failure = from_rpc_error(error, service)
            if not failure.wait_s or time.monotonic() + failure.wait_s > end:
                raise failure from error
        time.sleep(failure.wait_s)


def _version(name: str, version: int) -> vision_pb2.ModelVersion:
    return vision_pb2.ModelVersion(name=name, version=version)


def _mask(mask: np.ndarray) -> vision_pb2.Mask:
    height, width = mask.shape
    return vision_pb2.Mask(counts=encode_rle(mask), height_px=height, width_px=width)


def _images(images: Sequence[NamedImage], frame: int) -> list[vision_pb2.Image]:
    return [vision_pb2.Image(id=name, data=data, frame=frame) for name, data in images]


def _ask_all(
    ask: Callable[[Sequence[NamedImage]], Sequence[Reply]], images: Sequence[NamedImage], most: int
) -> list[Reply]:
    """Answers to any number of pictures, in order, `most` at a time and fewer where their size or their answers' asks for it."""
    chunks = in_chunks(images, most, lambda image: len(image[1]))
    return [answer for chunk in chunks for answer in _ask(ask, chunk)]


def _ask(ask: Callable[[Sequence[NamedImage]], Sequence[Reply]], chunk: Sequence[NamedImage]) -> list[Reply]:
    """Answers to a chunk; one that comes to more than a message or a service takes is asked in halves."""
    parts = call_in_parts(lambda images: _naming(ask, images), chunk, is_too_much)
    return [answer for part in parts for answer in part]


def _naming(ask: Callable[[Sequence[NamedImage]], Sequence[Reply]], images: Sequence[NamedImage]) -> Sequence[Reply]:
    """`ask(images)`; a refusal names the picture, whose place in the request means nothing to the caller."""
    try:
        return ask(images)
    except PlumblineError as error:
        refused = _REFUSED.search(error.field)
        if not refused or int(refused[1]) >= len(images):
            raise
        raise PlumblineError(f"{images[int(refused[1])][0]}: {error}", error.code, error.field) from error


def is_large_picture(data: bytes) -> bool:
    """Whether a picture is to be sent in pieces; what is none is not, and is refused by the service."""
    if len(data) > UPLOAD_FROM_BYTES:
        return True
    try:
        height_px, width_px = read_picture_size(data, PictureLimits())
    except PictureError:
        return False
    return height_px * width_px > UPLOAD_FROM_PIXELS


def is_too_much(error: Exception) -> bool:
    """Whether a call failed because it asked for more than a message or a service takes: halves may do."""
    return isinstance(error, PlumblineError) and error.code == "RESOURCE_EXHAUSTED" and not error.wait_s
