"""`plumbline explain`: pictures by themselves, shown in a table, or a folder of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from plumbline.cli.explaining_folders import explain_folder
from plumbline.cli.picture_files import Frame, name_pictures, read_mask
from plumbline.cli.session import Model, Version, console, failures_told, only_model
from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.names import choices

Method = choices("Method", pb.AttributionMethod)
ImagesOrFolder = Annotated[
    list[Path], typer.Argument(help="PNG, JPEG, WebP or DICOM files, or one folder of them (with --out).", exists=True)
]
_MEASURES: dict[str, Callable[[pb.Explanation], str]] = {
    "deletion, insertion": lambda explanation: (
        f"{explanation.faithfulness.deletion_auc:.3f}, {explanation.faithfulness.insertion_auc:.3f}"
    ),
    "in the mask: evidence, rank, peak, area": lambda explanation: _tell_localization(explanation.localization),
}
"""Columns of what is measured when it is asked for."""
_FAITHFULNESS, _LOCALIZATION = _MEASURES


def explain(
    context: typer.Context,
    images: ImagesOrFolder,
    model: Model = "",
    version: Version = 0,
    target: Annotated[str, typer.Option(help="Class to explain; default: the predicted one.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for PNGs of picture, map and segments; of a folder also JSONs, maps and a summary by class. What is there is not asked for again.",
        ),
    ] = None,
    frame: Frame = 0,
    method: Annotated[
        Method | None, typer.Option(help="How the evidence is attributed; default: DeepLIFT SHAP.")
    ] = None,
    against: Annotated[str, typer.Option(help="Class that the explained one is held against.")] = "",
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="Measure the maps: areas of deletion (small is good) and insertion.")
    ] = False,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="Measure how much of the map lies where this picture is not black; once for each of IMAGES, in their order.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Classify pictures and show where the evidence lies."""
    with failures_told(), context.obj.client() as client:
        attribution = f"ATTRIBUTION_METHOD_{method.name if method else 'UNSPECIFIED'}"
        asked = pb.ExplainRequest(
            model=vision_pb2.ModelVersion(name=model or only_model(client), version=version),
            target_label=target,
            method=attribution,
            with_overlay=out is not None,
            contrast_label=against,
            with_faithfulness=faithfulness,
        )
        if any(path.is_dir() for path in images):
            if len(images) != 1 or out is None or mask:
                raise PlumblineError("a folder of pictures is explained alone, needs --out and takes no --mask")
            explain_folder(client, images[0], out, asked, frame)
            return
        named = name_pictures(images)
        masks = _name_masks([name for name, _ in named], mask) if mask else None
        answered, explanations = client.explain(
            asked.model.name,
            named,
            version,
            target,
            attribution,
            with_overlay=asked.with_overlay,
            frame=frame,
            contrast_label=against,
            with_faithfulness=faithfulness,
            masks=masks,
        )
        measured = [_FAITHFULNESS] if faithfulness else []
        measured += [_LOCALIZATION] if masks else []
        console.print(_draw_table(explanations, measured))
        console.print(f"{answered.name} version {answered.version}, {answered.digest}", highlight=False)
        if out is not None:
            _keep_overlays(explanations, out)


def _name_masks(names: Sequence[str], paths: Sequence[Path]) -> dict[str, np.ndarray]:
    if len(paths) != len(names):
        raise PlumblineError(f"--mask: expected one for each of {len(names)} pictures, got {len(paths)}")
    return {name: read_mask(path) for name, path in zip(names, paths, strict=True)}


def _draw_table(explanations: Sequence[pb.Explanation], measured: Sequence[str]) -> Table:
    table = Table("picture", "says", "probability", "explained", "segments (share of the positive evidence)", *measured)
    for explanation in explanations:
        prediction = explanation.prediction
        said = ", ".join(prediction.predicted_labels) or "none"
        explained = " against ".join(filter(None, (explanation.target_label, explanation.contrast_label)))
        shares = ", ".join(f"{segment.index}: {segment.share:.2f}" for segment in explanation.segments)
        table.add_row(
            escape(explanation.image_id),
            escape(said),
            f"{max(prediction.probabilities):.3f}",
            escape(explained),
            shares or "none",
            *(_MEASURES[name](explanation) for name in measured),
        )
    return table


def _tell_localization(found: pb.Localization) -> str:
    peak = "inside" if found.pointing_hit else "outside"
    return f"{found.relevance_mass:.3f}, {found.relevance_rank:.3f}, {peak}, {found.area:.3f}"


def _keep_overlays(explanations: Sequence[pb.Explanation], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for explanation in explanations:
        name = explanation.image_id.replace("/", "_")
        (out / f"{name}.explained.png").write_bytes(explanation.overlay_png)
