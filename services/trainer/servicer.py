"""`plumbline.trainer.v1` to our use cases and back, nothing else. The use cases block, so they run in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.watching import Watching
from services.trainer.messages import read_submission, write_alignment, write_critiqued

SERVICE = pb.DESCRIPTOR.services_by_name["TrainerService"].full_name
_WATCH_INTERVAL_S = 0.3


class TrainerServicer(rpc.TrainerServiceServicer):
    """The gRPC face."""

    def __init__(self, submitting: Submitting, watching: Watching) -> None:
        self._submitting = submitting
        self._watching = watching

    async def SubmitAlignment(
        self, request: pb.SubmitAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.SubmitAlignmentResponse:
        job = await asyncio.to_thread(self._submitting.submit, read_submission(request))
        return pb.SubmitAlignmentResponse(alignment=await self._look(job.job_id))

    async def GetAlignment(
        self, request: pb.GetAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetAlignmentResponse:
        return pb.GetAlignmentResponse(alignment=await self._look(request.job_id))

    async def ListAlignments(
        self, request: pb.ListAlignmentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListAlignmentsResponse:
        views, token = await asyncio.to_thread(self._watching.page, request.page_size, request.page_token)
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
            self._watching.critiques, request.job_id, request.page_size, request.page_token
        )
        return pb.ListCritiquesResponse(images=[write_critiqued(*pair) for pair in page], next_page_token=token)

    async def CancelAlignment(
        self, request: pb.CancelAlignmentRequest, context: grpc.aio.ServicerContext
    ) -> pb.CancelAlignmentResponse:
        view = await asyncio.to_thread(self._watching.cancel, request.job_id, request.reason)
        return pb.CancelAlignmentResponse(alignment=write_alignment(view))

    async def _look(self, job_id: str) -> pb.Alignment:
        return write_alignment(await asyncio.to_thread(self._watching.look, job_id))
