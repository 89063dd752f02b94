"""`plumbline.trainer.v1` to our use cases and back, nothing else. The use cases block, and a large request takes time to read: both in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc

from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common.runtime.callers import read_caller, read_proven_name
from services.trainer.critique_messages import (
    read_batch,
    read_decisions,
    write_critiqued,
    write_picture,
    write_pushed,
)
from services.trainer.handlers.consuming import Consuming
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.retrying import Retrying
from services.trainer.handlers.reviewing import Reviewing
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.watching import Watching
from services.trainer.messages import read_states, read_submission, write_alignment

SERVICE = pb.DESCRIPTOR.services_by_name["TrainerService"].full_name
_WATCH_INTERVAL_S = 0.3


class TrainerServicer(rpc.TrainerServiceServicer):
    """The gRPC face."""

    def __init__(
        self,
        submitting: Submitting,
        watching: Watching,
        consuming: Consuming,
        reviewing: Reviewing,
        retrying: Retrying,
        recovering: Recovering,
    ) -> None:
        self._submitting = submitting
        self._watching = watching
        self._consuming = consuming
        self._reviewing = reviewing
        self._retrying = retrying
        self._recovering = recovering

    async def SubmitAlignment(
        self, request: pb.SubmitAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.SubmitAlignmentResponse:
        submitter = read_proven_name(context, request.submitter)
        job = await asyncio.to_thread(
            lambda: self._submitting.submit(replace(read_submission(request), submitter=submitter))
        )
        return pb.SubmitAlignmentResponse(alignment=await self._look(job.job_id))

    async def GetAlignment(
        self, request: pb.GetAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetAlignmentResponse:
        return pb.GetAlignmentResponse(alignment=await self._look(request.job_id))

    async def ListAlignments(
        self, request: pb.ListAlignmentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListAlignmentsResponse:
        views, token = await asyncio.to_thread(
            lambda: self._watching.page(
                request.page_size, request.page_token, read_states(request.states), request.submitter
            )
        )
        return pb.ListAlignmentsResponse(alignments=[write_alignment(view) for view in views], next_page_token=token)

    async def WatchAlignment(
        self, request: pb.WatchAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchAlignmentResponse]:
        last = None
        while True:
            view = await asyncio.to_thread(self._watching.look, request.job_id)
            alignment = write_alignment(view)
            if alignment != last:
                last = alignment
                yield pb.WatchAlignmentResponse(alignment=alignment)
            if view.job.state.is_final:
                return
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def ListCritiques(
        self, request: pb.ListCritiquesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListCritiquesResponse:
        page, token = await asyncio.to_thread(
            self._watching.critiques,
            request.job_id,
            request.page_size,
            request.page_token,
            not request.without_pictures,
        )
        return pb.ListCritiquesResponse(images=map(write_critiqued, page), next_page_token=token)

    async def ListPictures(
        self, request: pb.ListPicturesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPicturesResponse:
        page, token = await asyncio.to_thread(
            self._watching.pictures, request.job_id, request.page_size, request.page_token
        )
        return pb.ListPicturesResponse(pictures=map(write_picture, page), next_page_token=token)

    async def PushCritiques(
        self, request: pb.PushCritiquesRequest, context: grpc.aio.ServicerContext
    ) -> pb.PushCritiquesResponse:
        batch = read_batch(request.batch_json)
        consumed = await asyncio.to_thread(self._consuming.push, batch)
        pairs = zip(batch["critiques"], consumed, strict=True)
        return pb.PushCritiquesResponse(critiques=[write_pushed(content, *taken) for content, taken in pairs])

    async def ReviewCritiques(
        self, request: pb.ReviewCritiquesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReviewCritiquesResponse:
        reviewer = read_proven_name(context, request.reviewer)
        counts = await asyncio.to_thread(
            lambda: self._reviewing.review(request.job_id, reviewer, read_decisions(request.decisions))
        )
        return pb.ReviewCritiquesResponse(decided_count=counts.decided, open_count=counts.undecided)

    async def FinishReview(
        self, request: pb.FinishReviewRequest, context: grpc.aio.ServicerContext
    ) -> pb.FinishReviewResponse:
        reviewer = read_proven_name(context, request.reviewer)
        await asyncio.to_thread(self._reviewing.finish, request.job_id, reviewer, request.accept_rest)
        return pb.FinishReviewResponse(alignment=await self._look(request.job_id))

    async def CancelAlignment(
        self, request: pb.CancelAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.CancelAlignmentResponse:
        view = await asyncio.to_thread(self._watching.cancel, request.job_id, request.reason, read_caller(context))
        return pb.CancelAlignmentResponse(alignment=write_alignment(view))

    async def RetryAlignment(
        self, request: pb.RetryAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.RetryAlignmentResponse:
        job = await asyncio.to_thread(self._retrying.retry, request.job_id, request.idempotency_key)
        return pb.RetryAlignmentResponse(alignment=await self._look(job.job_id))

    async def RecoverAlignments(
        self, request: pb.RecoverAlignmentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.RecoverAlignmentsResponse:
        return pb.RecoverAlignmentsResponse(recovered_count=await asyncio.to_thread(self._recovering.recover))

    async def _look(self, job_id: str) -> pb.Alignment:
        return write_alignment(await asyncio.to_thread(self._watching.look, job_id))
