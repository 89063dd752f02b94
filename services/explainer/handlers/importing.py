"""Make a bundle of somebody else's Hugging Face folder, hold it against `transformers`, store it and publish it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound
from services.common.vision.golden import save_golden
from services.common.vision.model_bundle import (
    BASELINES,
    CARD,
    PROVENANCE,
    ModelBundle,
    describe_bundle,
    load_bundle,
)
from services.common.vision.model_folder import check_model_folder, copy_model_files
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.explainer.handlers.import_checks import (
    GoldenCheck,
    RandomisationCheck,
    check_randomisation,
    draw_baselines,
    make_golden,
)
from services.explainer.handlers.publishing import Publishing, check_asked
from services.explainer.handlers.uncancelled import run_in_thread
from services.explainer.ports import ServedVersion

MIN_PICTURES = 2
MAX_PICTURES = 64
CHECKED_COUNT = 4
"""Pictures that the checks are made with: a net of 25 million parameters takes seconds for each."""

PictureFile = tuple[bytes, int]
"""An encoded picture and the number of its frame; 0: the only one."""


@dataclass(frozen=True)
class ImportChecks:
    """What was found."""

    golden_request: GoldenCheck
    parameter_randomisation: RandomisationCheck


@dataclass(frozen=True)
class ImportedModel:
    """The version that serves the bundle at `bundle_path` of the store."""

    served: ServedVersion
    bundle_path: str
    checks: ImportChecks


class Importing:
    """The way in for models that were trained elsewhere."""

    def __init__(self, publishing: Publishing, store: ArtifactStore, limits: ImageLimits) -> None:
        self._publishing = publishing
        self._store = store
        self._limits = limits

    async def import_folder(
        self,
        name: str,
        folder_path: str,
        pictures: Sequence[PictureFile],
        expected_champion: int,
        key: str,
        caller: str = "",
    ) -> ImportedModel:
        """Check the folder at `folder_path` of the store, put a bundle of it under models/<name>/ of the store and publish that.

        `pictures` become the baselines, some of them the golden request; without any the folder's own baselines do.

        Raises
        ------
        InvalidInput
            At `folder_path`, with file and key, also when the maps don't depend on the parameters; at `name`, `pictures`,
            `pictures[i].data` or `idempotency_key`.
        Unsupported
            When the preprocessing asks for a step that is not built, or the attribution method does not run on the model.
        WrongState
            When our logits are not those of `transformers`, here or as served; the old champion stays.
        AlreadyExists, Conflict, Unavailable
            As for `Publishing.publish_folder`.
        """
        check_asked(name, key)
        path, checks = await run_in_thread(self._store_checked, name, folder_path, pictures)
        served = await self._publishing.publish(name, path, expected_champion, key, caller)
        return ImportedModel(served, path, checks)

    def _store_checked(self, name: str, folder_path: str, pictures: Sequence[PictureFile]) -> tuple[str, ImportChecks]:
        with tempfile.TemporaryDirectory(prefix="import-") as temporary:
            made = Path(temporary)
            self._copy(folder_path, made)
            self._write_baselines(made, pictures)
            with _told_at("folder_path"):
                bundle = load_bundle(made)
            shown = self._choose(bundle, pictures)
            with _told_at("folder_path"):
                golden, golden_check = make_golden(bundle, made, shown)
                checks = ImportChecks(golden_check, check_randomisation(bundle, shown))
            save_golden(made, golden)
            _write_provenance(made, bundle, checks, has_pictures=bool(pictures))
            path = f"models/{name}/{bundle.digest.removeprefix('sha256:')}"
            with contextlib.suppress(AlreadyExists):  # the same bundle came before
                self._store.create_folder(path, made)
            return path, checks

    def _copy(self, folder_path: str, made: Path) -> None:
        try:
            with _told_at("folder_path"), self._store.fetch(folder_path) as folder:
                check_model_folder(folder)
                copy_model_files(folder, made)
        except NotFound as error:
            raise InvalidInput("folder_path", f"no folder '{folder_path}' in the artifact store") from error

    def _write_baselines(self, made: Path, pictures: Sequence[PictureFile]) -> None:
        if not pictures and (made / BASELINES).is_file():
            return
        if not MIN_PICTURES <= len(pictures) <= MAX_PICTURES:
            own = "" if pictures else f", for the folder has no {BASELINES}"
            raise InvalidInput(
                "pictures",
                f"got {len(pictures)}; expected {MIN_PICTURES} to {MAX_PICTURES}, like those to be classified{own}",
            )
        preprocessor = describe_bundle(made).preprocessor
        # One after the other: decoded, all together may be gigabytes.
        rows = [preprocessor(self._decode(index, data)) for index, data in enumerate(pictures)]
        save_file({"baselines": torch.from_numpy(np.stack(rows))}, made / BASELINES)

    def _choose(self, bundle: ModelBundle, pictures: Sequence[PictureFile]) -> list[np.ndarray]:
        """Pictures for the checks, decoded, from all over those that there are."""
        count = len(pictures) or len(bundle.baselines)
        chosen = np.linspace(0, count - 1, min(count, CHECKED_COUNT)).astype(int).tolist()
        if not pictures:
            return draw_baselines(bundle.preprocessor, bundle.baselines[chosen])
        return [self._decode(index, pictures[index]) for index in chosen]

    def _decode(self, index: int, picture: PictureFile) -> np.ndarray:
        data, frame = picture
        return decode_image(data, self._limits, f"pictures[{index}].data", frame)


def _write_provenance(made: Path, bundle: ModelBundle, checks: ImportChecks, has_pictures: bool) -> None:
    """Add to the folder's own `plumbline.json` what was done here; write a card where there is none."""
    architecture = type(bundle.model).__name__
    told = {
        "architecture": architecture,
        "transformers": transformers.__version__,
        "baselines": {"from": "pictures" if has_pictures else "folder", "count": len(bundle.baselines)},
        **asdict(checks),
    }
    (made / PROVENANCE).write_text(json.dumps(bundle.provenance | {"import": told}, indent=2, sort_keys=True))
    if not (made / CARD).is_file():
        (made / CARD).write_text(f"# {architecture}\n\nImported without a card. Classes: {', '.join(bundle.labels)}.\n")


@contextlib.contextmanager
def _told_at(field: str) -> Iterator[None]:
    """A bundle's faults at the field of the request that it came by."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(field, error.description) from error
