"""Captum behind MLServer, one worker process; asked by REST in the Open Inference Protocol.

Run, by the Python that MLServer is installed for: python -m benchmarks.explainer.captum_mlserver --bundle DIR --method NAME --port P --threads T [--batch N]
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import mlserver
from mlserver.codecs import Base64Codec, StringCodec
from mlserver.settings import ModelParameters, ModelSettings, Settings

from benchmarks.explainer.captum_answers import Answering, read_arguments
from plumbline.stack.processes import free_port

BATCH_TIME_S = 0.01


class Explainer(mlserver.MLModel):
    """MLServer's contract."""

    async def load(self) -> bool:
        """Load the net, in the worker."""
        told = self.settings.parameters.extra
        self._answer = Answering(Path(told["bundle"]), told["method"], told["threads"])
        return True

    async def predict(self, payload: mlserver.types.InferenceRequest) -> mlserver.types.InferenceResponse:
        """An answer for each picture in the payload's only input."""
        labels, maps = zip(*self._answer(Base64Codec.decode_input(payload.inputs[0])), strict=True)
        outputs = [StringCodec.encode_output("label", labels), Base64Codec.encode_output("map", maps, use_bytes=False)]
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=outputs)


def main() -> None:
    """Serve until ended."""
    arguments = read_arguments(__doc__)
    told = {"bundle": str(arguments.bundle), "method": arguments.method, "threads": arguments.threads}
    model = ModelSettings(
        name="explainer",
        # By its name: this module is called otherwise while it runs, and the worker imports it anew.
        implementation="benchmarks.explainer.captum_mlserver.Explainer",
        parameters=ModelParameters(extra=told),
        max_batch_size=arguments.batch if arguments.batch > 1 else 0,
        max_batch_time=BATCH_TIME_S if arguments.batch > 1 else 0.0,
    )
    settings = Settings(
        host="127.0.0.1",
        http_port=arguments.port,
        grpc_port=free_port(),
        metrics_port=free_port(),
        debug=False,
        parallel_workers=1,
    )
    asyncio.run(_serve(settings, model))


async def _serve(settings: Settings, model: ModelSettings) -> None:
    # Made here, because it looks for the running event loop.
    await mlserver.MLServer(settings).start([model])


if __name__ == "__main__":
    main()
