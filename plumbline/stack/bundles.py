"""Put a model into the local stack's artifact store, where the explainer takes publications and imports from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plumbline.errors import PlumblineError


def store_bundle(store: str | Path, name: str, folder: Path) -> tuple[str, str]:
    """Copy a model bundle to `models/<name>/<digest>` of the artifact store with that root; returns that path and the digest.

    Raises
    ------
    PlumblineError
        When the folder is no model bundle.
    """
    with _faults_told(folder):
        from services.common.vision.model_bundle import bundle_digest

        digest = bundle_digest(folder)
        return _store(store, f"models/{name}", digest, folder), digest


def store_model_folder(store: str | Path, name: str, folder: Path) -> tuple[str, str]:
    """Copy those files of a Hugging Face image-classification folder that a bundle is made of to `imports/<name>/<digest>`; returns that path and
    the digest.

    Raises
    ------
    PlumblineError
        When no bundle can be made of the folder; it names the file and the key at fault.
    """
    with _faults_told(folder), tempfile.TemporaryDirectory(prefix="plumbline-") as temporary:
        from services.common.vision.model_bundle import bundle_digest
        from services.common.vision.model_folder import check_model_folder, copy_model_files

        check_model_folder(folder)
        copy_model_files(folder, Path(temporary))
        digest = bundle_digest(Path(temporary))
        return _store(store, f"imports/{name}", digest, Path(temporary)), digest


def _store(store: str | Path, parent: str, digest: str, folder: Path) -> str:
    from services.common.runtime.errors import AlreadyExists
    from services.common.runtime.open_store import open_store

    path = f"{parent}/{digest.removeprefix('sha256:')}"
    with suppress(AlreadyExists):  # the same files were stored before
        open_store(store).create_folder(path, folder)
    return path


@contextmanager
def _faults_told(folder: Path) -> Iterator[None]:
    """The services' errors as ours. They are imported only where they are used: they bring torch along, which a command like `jobs` need not wait
    for."""
    try:
        from services.common.runtime.errors import InvalidInput, ServiceError
    except ImportError as error:
        raise PlumblineError(f"{error.name} is missing: pip install 'plumbline[local]'") from error
    try:
        yield
    except InvalidInput as error:
        raise PlumblineError(f"{folder}: {error.description}") from error
    except ServiceError as error:
        raise PlumblineError(f"{folder}: {error.message}") from error
    except ImportError as error:
        raise PlumblineError(f"{error.name} is missing: pip install 'plumbline[local]'") from error
