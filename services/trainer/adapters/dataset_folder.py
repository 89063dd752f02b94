"""The `DatasetReader` port on Hugging Face's `imagefolder` convention: metadata.csv beside the pictures.

Reads the columns `file_name` and `label` and no other: `group` and `mask_file_name`, where a data set has them, serve reports alone.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path, PurePosixPath

from services.common.runtime.errors import InvalidInput
from services.trainer.ports import Sample

TABLE = "metadata.csv"


class DatasetFolder:
    """Data sets below one root."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).resolve()

    def read(self, dataset_path: str) -> list[Sample]:
        """See the port.

        Raises
        ------
        InvalidInput
            At `dataset_path`, when the path leaves the root, the table is missing or a line of it does not hold.
        """
        folder = self._find_folder(dataset_path)
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = {"file_name", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InvalidInput("dataset_path", f"{TABLE} has no column {', '.join(sorted(missing))}")
            samples = [_read_row(folder, row["file_name"], row["label"], reader.line_num) for row in reader]
        if not samples:
            raise InvalidInput("dataset_path", f"{TABLE} lists no picture")
        return samples

    def _find_folder(self, dataset_path: str) -> Path:
        pure = PurePosixPath(dataset_path)
        if not dataset_path or pure.is_absolute() or ".." in pure.parts or "\x00" in dataset_path:
            raise InvalidInput("dataset_path", "expected a relative path below the data root, without '..'")
        folder = (self._root / pure).resolve()
        if not folder.is_relative_to(self._root) or not (folder / TABLE).is_file():
            raise InvalidInput(
                "dataset_path", f"no data set '{dataset_path}': expected a folder with {TABLE} below the data root"
            )
        return folder


def _read_row(folder: Path, file_name: str | None, label: str | None, line: int) -> Sample:
    if not file_name or not label:
        raise InvalidInput("dataset_path", f"{TABLE} line {line}: expected file_name and label")
    path = (folder / file_name).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise InvalidInput("dataset_path", f"{TABLE} line {line}: there is no file '{file_name}'")
    return Sample(file_name, label, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", path)
