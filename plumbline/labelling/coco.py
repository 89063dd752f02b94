"""COCO instance annotations, read and written.

Taken: `images` (id, file_name, height, width), `categories` (id, name: a verdict, SPURIOUS, CORE or UNSURE, in whatever case), `annotations`
(image_id, category_id, segmentation). A segmentation is a list of polygons ([x, y, x, y, …] in pixels, several are joined), or run lengths of
the picture's size, column by column, as text (what pycocotools writes) or as a list of numbers. Each annotation is a segment.
Boxes alone, key points, panoptic and stuff annotations are not taken. A picture without an annotation may not have been looked at: it gets no
critique.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from plumbline.common.v1 import critique_pb2
from plumbline.errors import PlumblineError
from plumbline.labelling.gallery import Findings, Gallery
from plumbline.masks import decode_rle, fill_polygon, fill_runs, list_runs
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

VERDICTS = ("SPURIOUS", "CORE", "UNSURE")


def is_coco(content: Any) -> bool:
    """Whether JSON content is an annotation file of COCO's."""
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def read_coco(content: Mapping[str, Any], gallery: Gallery) -> Findings:
    """Critiques of the annotated pictures; one annotation that can't be read costs its picture's critique and no other.

    Raises
    ------
    PlumblineError
        When the file as a whole is none of COCO's.
    """
    try:
        names = {category["id"]: str(category["name"]).upper() for category in content.get("categories", ())}
        images = {image["id"]: (str(image["file_name"]), image) for image in content["images"]}
        by_image: dict[Any, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
        for number, annotation in enumerate(content["annotations"]):
            by_image[annotation["image_id"]].append((number, annotation))
    except (KeyError, TypeError, AttributeError) as error:
        raise PlumblineError(
            f"no COCO annotations: expected images with id and file_name, categories with id and name, annotations with image_id; {error!r}"
        ) from error
    findings = Findings()
    for image_id, numbered in by_image.items():
        if image_id not in images:
            number = numbered[0][0]
            findings.faults.append((f"annotations[{number}]", f"image_id: there is no image {image_id!r}"))
            continue
        file_name, image = images[image_id]
        picture = gallery.find(file_name)
        if picture is None:
            findings.unknown.append(file_name)
            continue
        try:
            _check_size(image, picture)
            segments = [_read_segment(number, annotation, names, picture) for number, annotation in numbered]
            findings.critiques.append(gallery.critique(picture, segments))
        except (ValueError, TypeError) as error:
            findings.faults.append((file_name, str(error)))
    return findings


def write_coco(
    critiqued: Sequence[trainer_pb.CritiquedImage], chosen: Iterable[trainer_pb.ChosenPicture]
) -> dict[str, Any]:
    """Critiques as COCO annotations with plain run lengths, which every label tool that knows run lengths takes."""
    numbers = {f"VERDICT_{name}": number for number, name in enumerate((*VERDICTS, "FAILED"), start=1)}
    sizes_px = {picture.image_digest: (picture.height_px, picture.width_px) for picture in chosen}
    images, segments = [], []
    for image_number, entry in enumerate(critiqued, start=1):
        for verdict in entry.critique.verdicts:
            mask = decode_rle(verdict.mask.counts, verdict.mask.height_px, verdict.mask.width_px)
            segments.append(
                {
                    "id": len(segments) + 1,
                    "image_id": image_number,
                    "category_id": numbers[critique_pb2.Verdict.Name(verdict.verdict)],
                    "segmentation": {"counts": list_runs(mask), "size": list(mask.shape)},
                    "area": int(mask.sum()),
                    "bbox": _bounds(mask),
                    "iscrowd": 1,
                }
            )
        height_px, width_px = sizes_px[entry.critique.image_digest]
        images.append({"id": image_number, "file_name": entry.image.id, "height": height_px, "width": width_px})
    categories = [{"id": number, "name": name.removeprefix("VERDICT_")} for name, number in numbers.items()]
    return {"images": images, "categories": categories, "annotations": segments}


def _check_size(image: Mapping[str, Any], picture: trainer_pb.ChosenPicture) -> None:
    size, expected = [image.get("height"), image.get("width")], [picture.height_px, picture.width_px]
    if size != expected:
        raise ValueError(f"height and width: expected {expected}, the picture's, got {size}")


def _read_segment(
    number: int, annotation: Mapping[str, Any], names: Mapping[Any, str], picture: trainer_pb.ChosenPicture
) -> tuple[str, np.ndarray]:
    field = f"annotations[{number}]"
    verdict = names.get(annotation.get("category_id"))
    if verdict not in VERDICTS:
        raise ValueError(f"{field}.category_id: expected a category named {', '.join(VERDICTS)}, got {verdict!r}")
    try:
        mask = _read_mask(annotation.get("segmentation"), picture.height_px, picture.width_px)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{field}.segmentation: {error}") from error
    return verdict, mask


def _read_mask(segmentation: Any, height_px: int, width_px: int) -> np.ndarray:
    if isinstance(segmentation, list) and segmentation:
        polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
        if not all(len(polygon) >= 6 and polygon.size % 2 == 0 and np.isfinite(polygon).all() for polygon in polygons):
            raise ValueError("expected polygons of three corners at least, each x and y")
        filled = (fill_polygon(polygon.reshape(-1, 2), height_px, width_px) for polygon in polygons)
        return np.logical_or.reduce(list(filled))
    if not isinstance(segmentation, dict):
        raise ValueError("expected polygons or run lengths")
    if segmentation["size"] != [height_px, width_px]:
        raise ValueError(f"size: expected {[height_px, width_px]}, the picture's, got {segmentation['size']}")
    counts = segmentation["counts"]
    return (decode_rle if isinstance(counts, str) else fill_runs)(counts, height_px, width_px)


def _bounds(mask: np.ndarray) -> list[int]:
    """COCO's box: left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
