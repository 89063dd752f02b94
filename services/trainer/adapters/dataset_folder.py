"""The `DatasetReader` port on Hugging Face's `imagefolder` convention: metadata.csv beside the pictures.

Takes the columns `file_name` and `label` and no other: `group` and `mask_file_name`, where a data set has them, serve reports alone.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from services.common.runtime.errors import InvalidInput
from services.trainer.ports import Sample

TABLE = "metadata.csv"
COLUMNS = ("file_name", "label")
_FIELD = "dataset_path"


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
        samples: list[Sample] = []
        seen: dict[str, int] = {}
        for line, file_name, label in _read_table(folder / TABLE):
            sample = _read_row(folder, file_name, label, line)
            if file_name in seen:
                raise InvalidInput(
                    _FIELD, f"{TABLE} line {line}: '{file_name}' stands in line {seen[file_name]} already"
                )
            seen[file_name] = line
            samples.append(sample)
        if not samples:
            raise InvalidInput(_FIELD, f"{TABLE} lists no picture")
        return samples

    def _find_folder(self, dataset_path: str) -> Path:
        pure = PurePosixPath(dataset_path)
        if not dataset_path or pure.is_absolute() or ".." in pure.parts or "\x00" in dataset_path:
            raise InvalidInput(_FIELD, "expected a relative path below the data root, without '..'")
        folder = (self._root / pure).resolve()
        if not folder.is_relative_to(self._root) or not _is_file(folder / TABLE):
            raise InvalidInput(
                _FIELD, f"no data set '{dataset_path}': expected a folder with {TABLE} below the data root"
            )
        return folder


def _read_table(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, file name and label of every row; what other columns hold is dropped here."""
    # utf-8-sig: spreadsheets write a byte order mark.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise InvalidInput(_FIELD, f"{TABLE} has no column {', '.join(missing)}")
            places = [header.index(name) for name in COLUMNS]
            for row in reader:
                if not row:
                    continue  # an empty line
                values = [row[place] if place < len(row) else "" for place in places]
                yield reader.line_num, values[0], values[1]
        except UnicodeDecodeError as error:
            raise InvalidInput(_FIELD, f"{TABLE} is not UTF-8 text") from error
        except csv.Error as error:
            raise InvalidInput(_FIELD, f"{TABLE} line {reader.line_num}: {error}") from error


def _read_row(folder: Path, file_name: str, label: str, line: int) -> Sample:
    if not file_name or not label:
        raise InvalidInput(_FIELD, f"{TABLE} line {line}: expected file_name and label")
    path = (folder / file_name.replace("\x00", "�")).resolve()
    if not path.is_relative_to(folder) or not _is_file(path):
        raise InvalidInput(_FIELD, f"{TABLE} line {line}: there is no file '{file_name[:200]}'")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(_FIELD, f"{TABLE} line {line}: '{file_name}' can't be read: {error.strerror}") from error
    return Sample(file_name, label, f"sha256:{hashlib.sha256(data).hexdigest()}", path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False
