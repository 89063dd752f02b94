"""Put a model bundle into the local stack's artifact store, where the explainer takes publications from."""

from __future__ import annotations

from pathlib import Path

from plumbline.errors import PlumblineError


def store_bundle(store: str | Path, name: str, folder: Path) -> tuple[str, str]:
    """Copy a Hugging Face image-classification folder to `models/<name>/<digest>` of the artifact store with that root; returns that path and the
    digest.

    Raises
    ------
    PlumblineError
        When the folder is no model bundle.
    """
    # Here and not above: these bring torch along, which a command like `jobs` need not wait for.
    try:
        from services.common.runtime.errors import AlreadyExists, ServiceError
        from services.common.runtime.open_store import open_store
        from services.common.vision.model_bundle import bundle_digest
    except ImportError as error:
        raise PlumblineError(f"{error.name} is missing: pip install 'plumbline[local]'") from error
    try:
        digest = bundle_digest(folder)
        path = f"models/{name}/{digest.removeprefix('sha256:')}"
        open_store(store).create_folder(path, folder)
    except AlreadyExists:
        pass  # the same bundle was added before
    except ServiceError as error:
        raise PlumblineError(f"{folder}: {error.message}") from error
    return path, digest
