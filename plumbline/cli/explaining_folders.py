"""Explain a folder of pictures into a folder of explanations; what is there already is not asked for again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rich.markup import escape
from rich.table import Table

from plumbline.cli.picture_files import NOT_UNICODE, PICTURE_SUFFIXES, find_pictures, is_unicode, tell_name
from plumbline.cli.session import console, errors
from plumbline.client import Client, NamedImage, is_large_picture
from plumbline.errors import PlumblineError
from plumbline.explained_folder import MAX_NAME_BYTES, SUMMARY, ExplainedFolder, describe_settings
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.pictures import picture_digest

_REFUSALS = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
"""What is wrong with a picture, not with the service."""


def explain_folder(client: Client, folder: Path, out: Path, asked: pb.ExplainRequest, frame: int) -> None:
    """Explain the pictures below `folder` as `asked`; leaves with status 1, after all that could be done, when some could not."""
    names = _find_pictures(folder, out)
    used = next(client.explain_batch(asked, [], 0, frame)).options
    # What was found here must hold for what is asked next, whatever is the champion by then.
    asked.model.CopyFrom(used.model)
    explained = ExplainedFolder(out, describe_settings(asked, used))
    failures: dict[str, str] = {}
    digests = {name: picture_digest(data, frame) for name, data in _read(folder, names, failures)}
    wanted = [name for name, digest in digests.items() if not explained.has(name, digest)]
    large: list[str] = []
    try:
        answers = client.explain_batch(asked, _read_small(folder, wanted, failures, large), len(wanted), frame)
        _keep_all(answers, explained, digests, failures, len(wanted))
        for image in _read(folder, large, failures):
            _keep_large(client, asked, image, frame, explained, digests, failures)
    except PlumblineError as error:
        raise PlumblineError(f"{error}; what was explained is kept, and the same command goes on from there") from error
    summary = explained.summarise(digests)
    _show(summary)
    already = len(digests) - len(wanted)
    console.print(f"{used.model.name} version {used.model.version}, {used.model.digest}", highlight=False)
    console.print(
        f"wrote {out / SUMMARY}; {already} of {len(names)} pictures were explained before",
        highlight=False,
        markup=False,
    )
    if failures:
        for name, reason in sorted(failures.items()):
            errors.print(f"{name}: {reason}", markup=False, highlight=False, soft_wrap=True)
        raise PlumblineError(f"{len(failures)} of {len(names)} pictures are not explained")


def _keep_all(
    answers: Iterator[pb.ExplainBatchResponse],
    explained: ExplainedFolder,
    digests: dict[str, str],
    failures: dict[str, str],
    count: int,
) -> None:
    """Write explanations as they come, note why others did not."""
    version = next(answers).options.model.version
    with console.status(f"explaining {count} pictures") as status:
        for answer in answers:
            outcome = answer.picture
            status.update(f"explained {outcome.index + 1} of {count} pictures")
            if outcome.WhichOneof("result") == "error":
                failures[outcome.image_id] = outcome.error.message
            else:
                digests[outcome.image_id] = outcome.image_digest  # the file may have changed since it was looked at
                explained.keep(outcome.image_id, version, outcome.explanation)


def _keep_large(
    client: Client,
    asked: pb.ExplainRequest,
    image: NamedImage,
    frame: int,
    explained: ExplainedFolder,
    digests: dict[str, str],
    failures: dict[str, str],
) -> None:
    """Send a picture by itself, in pieces; one that is refused is noted, as one of a batch would be."""
    name, _ = image
    with console.status(f"explaining {escape(name)}"):
        try:
            reply = client.explain_upload(asked, image, frame)
        except PlumblineError as error:
            if error.code not in _REFUSALS or error.wait_s:
                raise
            failures[name] = str(error)
            return
        (explanation,) = reply.explanations
        digests[name] = explanation.image_digest
        explained.keep(name, reply.model.version, explanation)


def _find_pictures(folder: Path, out: Path) -> list[str]:
    """Paths below `folder` of its pictures, sorted; what we wrote, should it lie in there, is none of them."""
    if folder.resolve().is_relative_to(out.resolve()):
        raise PlumblineError(
            f"--out: {out} holds the pictures; expected another folder, for what is written are pictures too"
        )
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in find_pictures(folder)
        if not path.resolve().is_relative_to(out.resolve())
    )
    if not found:
        raise PlumblineError(f"no pictures in {folder}; expected files {', '.join(PICTURE_SUFFIXES)}")
    return found


def _read(folder: Path, names: Sequence[str], failures: dict[str, str]) -> Iterator[NamedImage]:
    """Pictures one after the other; those that can't be read, or whose files could not be named, go to `failures`."""
    for name in names:
        fault = _find_fault(name)
        if fault:
            failures[tell_name(name)] = fault
            continue
        try:
            yield name, (folder / name).read_bytes()
        except OSError as error:
            failures[name] = str(error)


def _find_fault(name: str) -> str:
    """Why nothing can be asked or written of a picture of that name; empty when it can."""
    if not is_unicode(name):
        return NOT_UNICODE
    length = len(PurePosixPath(name).name.encode())
    return f"name of {length} bytes; at most {MAX_NAME_BYTES} are taken" if length > MAX_NAME_BYTES else ""


def _read_small(folder: Path, names: Sequence[str], failures: dict[str, str], large: list[str]) -> Iterator[NamedImage]:
    """As `_read`, without those that are sent in pieces, which go to `large`."""
    for name, data in _read(folder, names, failures):
        if is_large_picture(data):
            large.append(name)
        else:
            yield name, data


def _show(summary: Mapping[str, Any]) -> None:
    table = Table(
        "says", "pictures", "mean probability", "mean share of the first segment", "without positive evidence"
    )
    for label, found in summary["classes"].items():
        share = found["mean_share_of_first_segment"]
        table.add_row(
            escape(label),
            str(found["picture_count"]),
            f"{found['mean_probability']:.3f}",
            "none" if share is None else f"{share:.2f}",
            str(found["without_positive_evidence"]),
        )
    console.print(table)
