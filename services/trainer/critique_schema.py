"""The critique batch's JSON schema, for producers that do not read Python.

Run: python -m services.trainer.critique_schema > docs/critique-batch.schema.json
"""

from __future__ import annotations

import json
import sys

from services.common.vision.critique import CritiqueBatch


def render_schema() -> str:
    """The schema as it lies in docs/, with a final newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **CritiqueBatch.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_schema())
