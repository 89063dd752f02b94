"""Captum behind FastAPI on uvicorn, one process.

Run: python -m benchmarks.explainer.captum_fastapi --bundle DIR --method NAME --port P --threads T

The handler is `async def`, so that requests take turns: captum sets hooks on the net, and two at once would spoil each other's maps.
"""

from __future__ import annotations

import fastapi
import uvicorn

from benchmarks.explainer.captum_answers import Answering, read_arguments, read_file, to_response


def main() -> None:
    """Serve until ended."""
    arguments = read_arguments(__doc__)
    answer = Answering(arguments.bundle, arguments.method, arguments.threads)
    app = fastapi.FastAPI()

    async def predict(request: fastapi.Request) -> fastapi.Response:
        return to_response(answer([read_file(await request.json())])[0])

    app.add_api_route("/predict", predict, methods=["POST"])
    app.add_api_route("/health", lambda: "ok")
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
