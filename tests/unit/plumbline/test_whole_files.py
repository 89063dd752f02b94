"""A file is there whole or as it was, whatever happens while it is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from plumbline.whole_files import write_whole
from tests.support.commands import run_command, serve
from tests.support.full_disk import full_disk


class Lvlm(rpc.LvlmServiceServicer):
    """Gives each class its sentence back."""

    def CompileSpecification(self, request, context):
        rules = [{"class_name": each.class_name, "should_matter": each.text} for each in request.sentences]
        return pb.CompileSpecificationResponse(specification={"task": request.task, "rules": rules})


def test_a_confirmed_specification_outlives_the_next_one_that_the_disk_has_no_room_for(tmp_path: Path):
    sentences, out = tmp_path / "sentences.yaml", tmp_path / "specification.yaml"
    sentences.write_text(f"task: Read.\nclasses: [a]\nsentences: {{a: {'the strokes ' * 500}}}\n")
    out.write_text("task: confirmed\n")
    with serve(Lvlm()) as address, full_disk(1000):
        result = run_command("specification", "compile", str(sentences), "--out", str(out), "--yes", lvlm=address)
    assert (result.exit_code, "File too large" in result.stderr) == (1, True), result.output
    assert out.read_text() == "task: confirmed\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sentences.yaml", "specification.yaml"]


def test_a_file_keeps_its_rights_and_a_link_stays_one(tmp_path: Path):
    kept, link = tmp_path / "kept.html", tmp_path / "link.html"
    kept.write_bytes(b"old")
    kept.chmod(0o600)
    link.symlink_to(kept)
    write_whole(link, b"new")
    assert (link.is_symlink(), kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (True, b"new", 0o600)


def test_a_folder_that_is_not_there_is_made(tmp_path: Path):
    write_whole(tmp_path / "a" / "b", b"new")
    assert (tmp_path / "a" / "b").read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"new")
    assert os.read(reader, 9) == b"new"
    os.close(reader)


@pytest.mark.parametrize("made", ["folder", "file"])
def test_a_place_that_takes_no_file_is_told(tmp_path: Path, made: str):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"Is a directory|File exists"):
        write_whole(tmp_path if made == "folder" else tmp_path / "file" / "page", b"new")
