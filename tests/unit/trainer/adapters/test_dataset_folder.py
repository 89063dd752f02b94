"""The data set reader: two columns, below the root, and the line at fault in the message."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput
from services.trainer.adapters.dataset_folder import DatasetFolder


def _write(root: Path, table: str | bytes, names: tuple[str, ...] = ("a.png", "b.png")) -> DatasetFolder:
    folder = root / "set"
    folder.mkdir()
    (folder / "metadata.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    for name in names:
        (folder / name).write_bytes(name.encode())
    return DatasetFolder(root)


def _refusal(reader: DatasetFolder, path: str = "set") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        reader.read(path)
    assert caught.value.field == "dataset_path"
    return caught.value


def test_read_gives_name_label_and_digest_in_the_order_of_the_table(tmp_path: Path):
    samples = _write(tmp_path, "label,file_name\ndog,b.png\ncat,a.png\n").read("set")
    assert [(sample.file_name, sample.label) for sample in samples] == [("b.png", "dog"), ("a.png", "cat")]
    assert samples[0].digest == f"sha256:{hashlib.sha256(b'b.png').hexdigest()}"


def test_group_and_mask_columns_change_nothing_and_no_mask_is_opened(tmp_path: Path):
    bare, full = tmp_path / "bare", tmp_path / "full"
    bare.mkdir()
    full.mkdir()
    plain = _write(bare, "file_name,label\na.png,cat\nb.png,dog\n").read("set")
    table = "file_name,label,group,mask_file_name\na.png,cat,conflicting,m.png\nb.png,dog,aligned,gone.png\n"
    reader = _write(full, table, ("a.png", "b.png", "m.png"))
    opened: list[str] = []
    watching = [True]
    sys.addaudithook(lambda event, told: opened.append(str(told[0])) if watching and event == "open" else None)
    samples = reader.read("set")
    watching.clear()  # a hook can't be taken back
    assert {Path(name).name for name in opened if str(full) in name} == {"metadata.csv", "a.png", "b.png"}
    told = [(sample.file_name, sample.label, sample.digest) for sample in samples]
    assert told == [(sample.file_name, sample.label, sample.digest) for sample in plain]
    assert "conflicting" not in repr(samples)


def test_a_byte_order_mark_and_empty_lines_are_no_fault(tmp_path: Path):
    table = "\ufefffile_name,label\r\na.png,cat\r\n\r\nb.png,dog\r\n"
    assert len(_write(tmp_path, table).read("set")) == 2


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file_name\na.png\n", "no column label"),
        ("", "no column file_name, label"),
        ("file_name,label\n", "lists no picture"),
        ("file_name,label\na.png,cat\nc.png,dog\n", "line 3: there is no file 'c.png'"),
        ("file_name,label\na.png,\n", "line 2: expected file_name and label"),
        ("file_name,label\na.png\n", "line 2: expected file_name and label"),
        ("file_name,label\n../../secret,cat\n", "line 2: there is no file"),
        ("file_name,label\n/etc/passwd,cat\n", "line 2: there is no file"),
        ("file_name,label\na.png\x00,cat\n", "line 2"),
        ("file_name,label\na.png,cat\na.png,dog\n", "line 3: 'a.png' stands in line 2 already"),
        ("file_name,label\n" + "x" * 5000 + ",cat\n", "line 2: there is no file"),
        (b"file_name,label\n\xff\xfe,cat\n", "not UTF-8"),
        ("file_name,label\n" + "x" * 200_000 + ",cat\n", "line 2"),
    ],
)
def test_read_names_the_line_at_fault(tmp_path: Path, table: str | bytes, words: str):
    assert words in _refusal(_write(tmp_path, table)).message


@pytest.mark.parametrize("path", ["", "/etc", "../set", "set/../../x", "other", "set/a.png", "a\x00b", "x" * 5000])
def test_read_stays_below_the_data_root(tmp_path: Path, path: str):
    _refusal(_write(tmp_path, "file_name,label\na.png,cat\n"), path)


def test_a_link_out_of_the_data_set_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"x")
    reader = _write(tmp_path, "file_name,label\nlink.png,cat\n")
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret")
    assert "there is no file" in _refusal(reader).message
