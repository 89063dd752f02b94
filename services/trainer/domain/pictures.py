"""Pictures with the regions that a model must not use, and the moving of such regions between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pictures:
    """pixels (n, channel, height, width), preprocessed; labels (n,) int64; masks (n, height, width) bool or None.

    A mask may be empty: the picture was critiqued and nothing in it was spurious.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def rows_with_region(self) -> torch.Tensor:
        """Row numbers (m,) of the pictures whose mask is not empty; none without masks."""
        if self.masks is None or not len(self):
            return torch.zeros(0, dtype=torch.int64)
        return torch.nonzero(self.masks.flatten(1).any(dim=1)).flatten()


def move_regions(pictures: Pictures, donors: torch.Tensor, receivers: torch.Tensor) -> Pictures:
    """Each receiver with its donor's criticised region: the donor's artefact comes, the receiver's own goes.

    Shapes: donors and receivers are rows (n,) of `pictures`, which have masks. Returns n pictures with the receivers' labels; their masks are
    both regions together, on which the pixels are the donor's. A picture that is its own donor stays as it is.
    Source: ours (docs/decisions.md).
    """
    regions = pictures.masks[donors] | pictures.masks[receivers]
    pixels = torch.where(regions[:, None], pictures.pixels[donors], pictures.pixels[receivers])
    return Pictures(pixels, pictures.labels[receivers], regions)
