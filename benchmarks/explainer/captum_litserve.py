"""Captum behind LitServe, one worker; with `--batch` up to so many pictures in a call of captum, when so many wait.

Run: python -m benchmarks.explainer.captum_litserve --bundle DIR --method NAME --port P --threads T [--batch N]
"""

from pathlib import Path
from typing import Any

import fastapi
import litserve

from benchmarks.explainer.captum_answers import Answer, Answering, read_arguments, read_file, to_response

BATCH_TIMEOUT_S = 0.01


class Explainer(litserve.LitAPI):
    """LitServe's contract. It is pickled and set up in the worker. `decode_request`'s annotation is read, as a type: it makes JSON the request's form."""

    def __init__(self, bundle: Path, method: str, threads: int, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=BATCH_TIMEOUT_S if batch > 1 else 0.0)
        self._served = (bundle, method, threads)

    def setup(self, device: str) -> None:
        """Load the net."""
        self._answer = Answering(*self._served)

    def decode_request(self, request: dict[str, Any]) -> bytes:
        """The picture's file."""
        return read_file(request)

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """As they are."""
        return inputs

    def predict(self, inputs: bytes | list[bytes]) -> Answer | list[Answer]:
        """One answer, or one for each of a batch."""
        return self._answer(inputs) if isinstance(inputs, list) else self._answer([inputs])[0]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """As they are."""
        return output

    def encode_response(self, output: Answer) -> fastapi.Response:
        """Bytes instead of JSON, which would be slower."""
        return to_response(output)


def main() -> None:
    """Serve until ended."""
    arguments = read_arguments(__doc__)
    api = Explainer(arguments.bundle, arguments.method, arguments.threads, arguments.batch)
    server = litserve.LitServer(api, accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
