"""Pictures with the regions that a model must not use, and the moving of such regions between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pictures:
    """pixels (n, channel, height, width), preprocessed; labels (n,) int64; masks (n, height, width) bool or None.

    A mask may be empty: the picture was critiqued and nothing in it was spurious. Without masks the pictures were not critiqued.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: torch.Tensor | slice) -> Pictures:
        """The pictures of `rows`, a slice or (m,), in that order; a row may come twice."""
        return Pictures(
            *(None if part is None else _take(part, rows) for part in (self.pixels, self.labels, self.masks))
        )

    def to(self, device: torch.device) -> Pictures:
        """The same pictures on `device`."""
        masks = None if self.masks is None else self.masks.to(device)
        return Pictures(self.pixels.to(device), self.labels.to(device), masks)

    def rows_with_region(self) -> torch.Tensor:
        """Row numbers (m,) of the pictures whose mask is not empty; none without masks."""
        if self.masks is None or not len(self):
            return torch.zeros(0, dtype=torch.int64)
        return torch.nonzero(self.masks.flatten(1).any(dim=1)).flatten()


def move_regions(donors: Pictures, receivers: Pictures) -> Pictures:
    """Each receiver with the criticised region of the donor beside it: the donor's artefact comes, the receiver's own goes.

    Both are n pictures; donors have masks, receivers may have none. Returns n pictures with the receivers' labels; their masks are both
    regions together, on which the pixels are the donor's.
    Source: ours (docs/decisions.md).
    """
    regions = donors.masks if receivers.masks is None else donors.masks | receivers.masks
    pixels = torch.where(regions[:, None], donors.pixels, receivers.pixels)
    return Pictures(pixels, receivers.labels, regions)


class EveryClass:
    """Draws pictures of all classes, every class as often as another."""

    def __init__(self, labels: torch.Tensor) -> None:
        """`labels` (n,) of the pictures to draw from."""
        self._order = labels.argsort(stable=True)
        _, self._sizes = labels.unique(return_counts=True)
        self._firsts = self._sizes.cumsum(dim=0) - self._sizes

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Rows (count,)."""
        classes = torch.randint(len(self._sizes), (count,), generator=generator)
        places = (torch.rand(count, generator=generator, dtype=torch.float64) * self._sizes[classes]).long()
        return self._order[self._firsts[classes] + places]


class OtherClass:
    """Draws pictures of another class than given ones have, all such pictures alike."""

    def __init__(self, labels: torch.Tensor) -> None:
        """`labels` (n,) of the pictures to draw from."""
        self._order = labels.argsort(stable=True)
        self._sorted = labels[self._order].contiguous()

    def draw(self, labels: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """For each of `labels` (m,) a row (m,) whose label differs, and whether there is any (m,) bool; without one the row says nothing."""
        first, last = (torch.searchsorted(self._sorted, labels, right=is_right) for is_right in (False, True))
        others = len(self._sorted) - (last - first)
        place = (torch.rand(len(labels), generator=generator, dtype=torch.float64) * others).long()
        place = torch.where(place >= first, place + (last - first), place)
        return self._order[place.clamp_max(len(self._order) - 1)], others > 0


def _take(values: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
    """`values[rows]`; torch copies whole rows several times as fast when it is told that they are rows."""
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)
