"""From photos of any size to region label maps of the same size."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neural_photo_editor.api.schema import RegionSummary
from neural_photo_editor.common.regions import REGIONS, region_id
from neural_photo_editor.imaging.geometry import SquareCrop, choose_square, cut_out
from neural_photo_editor.imaging.masks import Mask, bounding_box

LabelMap = NDArray[np.uint8]

_DISPUTED = 255  # not a region: cells whose corners do not agree
_ROUNDING = 1e-5  # of the largest logit: leads up to here may be rounding errors
_BAND_ROWS = 32  # pixel rows in which borders are computed at once


class MirrorAveraged(nn.Module):
    """Test-time flip: a segmenter's logits, averaged over a photo and its mirror image.

    No region tells left from right, so the mirror image's logits need only be mirrored back. The
    result is mirror-symmetric, and it costs twice the time.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float (N, 11, R, R), of photos, float (N, 3, R, R) in [-1, 1]."""
        # Halved at once, into memory of its own: a CUDA graph's next call writes over its last.
        half: Tensor = self.network(x) / 2
        mirrored: Tensor = self.network(x.flip(-1))
        return half + mirrored.flip(-1) / 2


@dataclass(frozen=True)
class PhotoSegmenter:
    """Looks at squares of photos.

    Attributes:
        network: float (N, 3, R, R) in [-1, 1] -> logits (N, 11, R, R).
        resolution: R.
        device: device of the network.
    """

    network: Callable[[Tensor], Tensor]
    resolution: int
    device: torch.device

    def __call__(self, photo: NDArray[np.uint8], squares: Sequence[SquareCrop]) -> Tensor:
        """Return the logits of squares of a photo, uint8 (H, W, 3), in one call of the network.

        Returns:
            float32, (N, 11, R, R), in the processor's memory.
        """
        pixels = [cut_out(photo, square, resolution=self.resolution) for square in squares]
        logits: Tensor = self.network(torch.cat(pixels).to(self.device))
        return logits.float().cpu()


def whole_square(height: int, width: int) -> SquareCrop:
    """Return the square that shows all of a photo."""
    return choose_square(height, width, must_contain=(0, 0, height, width))


def label_map(logits: NDArray[np.float32], crop: SquareCrop) -> LabelMap:
    """Return the region with the largest bilinearly enlarged logit at each pixel of ``crop.box``.

    Logits, not labels, are enlarged, so that the borders of regions are smooth at the photo's size.
    A bilinear mix of four corners is convex: where one region leads at all of them, it leads in
    the whole cell between them, and nothing has to be enlarged. Of a large photo that is nearly
    every pixel; the borders of regions are computed.

    Args:
        logits: float32, (regions, R, R), R >= 2, of a square.
        crop: that square.

    Returns:
        uint8, (height, width) of the part of the photo that the square shows; where regions are
        equal, the lowest id.
    """
    resolution = logits.shape[-1]
    top, left, _, _ = crop.box
    rows = _Samples.along(top - crop.top, crop.height, side=crop.side, resolution=resolution)
    columns = _Samples.along(left - crop.left, crop.width, side=crop.side, resolution=resolution)
    of_columns = _undisputed_cells(logits)[:, columns.cell]
    labels = of_columns[rows.cell]
    cells = max(1, _BAND_ROWS * resolution // crop.side)
    for first_cell in range(0, resolution - 1, cells):
        band = slice(*np.searchsorted(rows.cell, (first_cell, first_cell + cells)))
        disputed = (of_columns[first_cell : first_cell + cells] == _DISPUTED).any(axis=0)
        x = np.flatnonzero(disputed)
        if x.size and band.start < band.stop:
            labels[band, x] = _winners(logits, rows.at(band), columns.at(x))
    return labels


@dataclass(frozen=True)
class _Samples:
    """Where pixels lie on one axis of the logits: between ``cell`` and ``cell + 1``.

    Attributes:
        cell: int, (n,), ascending, in 0..R - 2.
        share: float32, (n,), in [0, 1]: of the way to ``cell + 1``.
    """

    cell: NDArray[np.intp]
    share: NDArray[np.float32]

    @classmethod
    def along(cls, start: int, length: int, *, side: int, resolution: int) -> "_Samples":
        """Locate pixels of the photo; ``start`` is how many lie before them in the square."""
        position = (np.arange(length) + 0.5 + start) * (resolution / side) - 0.5
        position = position.clip(0.0, resolution - 1.0)
        cell = np.minimum(position.astype(np.intp), resolution - 2)
        return cls(cell, (position - cell).astype(np.float32))

    def at(self, which: slice | NDArray[np.intp]) -> "_Samples":
        return _Samples(self.cell[which], self.share[which])


def _undisputed_cells(logits: NDArray[np.float32]) -> LabelMap:
    """Return which region leads at all four corners of each cell, _DISPUTED where none does.

    A lead that rounding could turn around counts as none. uint8, (R - 1, R - 1).
    """
    second, first = np.partition(logits, -2, axis=0)[-2:]
    leader = logits.argmax(axis=0).astype(np.uint8)
    leader[first - second <= _ROUNDING * np.abs(logits).max()] = _DISPUTED
    corner = leader[:-1, :-1]
    agree = (corner == leader[1:, :-1]) & (corner == leader[:-1, 1:]) & (corner == leader[1:, 1:])
    return np.where(agree, corner, np.uint8(_DISPUTED))


def _winners(logits: NDArray[np.float32], rows: _Samples, columns: _Samples) -> LabelMap:
    """Return the winning region at every crossing of rows and columns, uint8, (h, w)."""
    above, below = logits[:, rows.cell], logits[:, rows.cell + 1]
    mixed = above + rows.share[:, None] * (below - above)
    best: NDArray[np.float32] | None = None
    labels = np.zeros((rows.cell.size, columns.cell.size), np.uint8)
    for region, plane in enumerate(mixed):
        left, right = plane[:, columns.cell], plane[:, columns.cell + 1]
        enlarged = left + columns.share * (right - left)
        if best is None:
            best = enlarged
            continue
        labels[enlarged > best] = region
        np.maximum(best, enlarged, out=best)
    return labels


def region_mask(labels: LabelMap, names: Iterable[str]) -> Mask:
    """Return where a label map shows any of the named regions: bool, (H, W)."""
    mask = np.zeros(labels.shape, np.bool_)
    for name in names:
        mask |= labels == region_id(name)
    return mask


def region_pixels(labels: LabelMap) -> dict[str, int]:
    """Return how many pixels each region has, 0 for those the photo lacks."""
    return {region.name: int(np.count_nonzero(labels == region.id)) for region in REGIONS}


def summarize_regions(labels: LabelMap) -> tuple[RegionSummary, ...]:
    """Return the table of all regions, also those the photo lacks (0 pixels, no box)."""
    table = []
    for region in REGIONS:
        mask = labels == region.id
        pixels, box = int(np.count_nonzero(mask)), bounding_box(mask)
        table.append(
            RegionSummary(
                id=region.id,
                name=region.name,
                pixels=pixels,
                fraction=round(pixels / labels.size, 6),
                box=None if box is None else (box[1], box[0], box[3], box[2]),
            )
        )
    return tuple(table)
