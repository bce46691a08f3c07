"""Membranes: the smoothest surface over a mask that meets given values around it.

A membrane solves Laplace's equation inside the mask: every pixel is the mean of its neighbors
(4 of them; fewer at the photo's border, which is a Neumann border). The values around the mask are
given (Dirichlet). One equation per masked pixel is too many for a large photo, and needless:
roughness of the border fades within a few pixels. So the mask is divided as in Agarwala,
"Efficient Gradient-Domain Compositing Using Quadtrees" (SIGGRAPH 2007), into single pixels along
its border and ever larger blocks inside. We deviate in what a block holds: one value at its center
instead of four at its corners, which makes the equations those of finite volumes (the flow between
two blocks is the difference of their values times the face they share, divided by the distance of
their centers) and, where all blocks are pixels, those of the photo itself.

A mask of at most 65536 pixels has no blocks: its membrane solves the equations of all pixels, with
a remainder of at most 1e-4 of the right side's norm. For larger ones the accuracy is measured, not
proven: over 1500 random masks no pixel differed from that solution by more than 1.8 % of the range
of the given values (the worst were steps from one pixel to the next at the photo's border). Where
these have shades and texture as photos do, masks of 0.1 to 4 million pixels differed by up to
0.2 %, and 0.02 % in the mean square: half a gray level and a twentieth for a range of 250 levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch.nn import functional as F

from neural_photo_editor.imaging.masks import Mask
from neural_photo_editor.imaging.multigrid import solve_flows

MARGINS = (2, 2, 3, 4, 6)
"""Blocks of 2, 4, 8, ... pixels a side keep this many of their kind between them and the border.

The last holds for all larger ones. ``MARGINS[i + 1] >= ceil(MARGINS[i] / 2) + 1`` makes blocks
that touch differ in side by a factor of 2 at most.
"""

MAX_EXACT_PIXELS = 65536
"""Masks up to this size are solved pixel by pixel."""

ROWS_AT_ONCE = 64
"""Rows of a membrane made at a time: few enough for the processor's cache."""

NO_BLOCK, BEYOND_PHOTO = -1, -2


@dataclass(frozen=True)
class Level:
    """The blocks of one size.

    Attributes:
        numbers: int32, (h + 2, w + 2): each block's number in the whole tree, ``NO_BLOCK`` where
            the place is outside the mask or in a block of another size, ``BEYOND_PHOTO`` around.
        filled: bool, (h, w): places within a block of this size or a larger one.
        rows, columns: int64, (n,): where the blocks are, in the order of their numbers.
        first: number of the first block.
        heights, widths: float32, (h,) and (w,): sides of the places in pixels; the last of an
            axis may be cut by the photo's border.
    """

    numbers: NDArray[np.int32]
    filled: Mask
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    first: int
    heights: NDArray[np.float32]
    widths: NDArray[np.float32]

    @property
    def own(self) -> NDArray[np.int64]:
        """The blocks' numbers, int64, (n,)."""
        return np.arange(self.first, self.first + len(self.rows))


@dataclass(frozen=True)
class MembraneEquations:
    """The equations of a mask's blocks, ready for the values around the mask.

    Attributes:
        levels: the blocks of 1, 2, 4, ... pixels a side.
        matrix: symmetric, positive definite, float32, (blocks, blocks).
        neighbors: int64, (m,): pixels outside the mask that touch it, as indices of the flattened
            mask; a pixel occurs once for every masked pixel it touches.
        receivers: int64, (m,): the masked pixels they touch, as numbers of blocks.
    """

    levels: tuple[Level, ...]
    matrix: sparse.csr_array
    neighbors: NDArray[np.int64]
    receivers: NDArray[np.int64]

    def solve(self, around: NDArray[np.float64]) -> "Membrane":
        """Return the membrane that meets the values ``around``, float, (m, channels).

        Parts of the mask that touch nothing outside it, neither directly nor through other masked
        pixels, are 0.
        """
        count, channels = self.matrix.shape[0], around.shape[1]
        given = np.empty((count, channels), dtype=np.float32)
        for channel in range(channels):
            given[:, channel] = np.bincount(self.receivers, around[:, channel], minlength=count)
        places = [(level.rows, level.columns) for level in self.levels]
        return Membrane(self.levels, solve_flows(self.matrix, given, places))


@dataclass(frozen=True)
class Membrane:
    """A solved membrane: a value for every block, float32, (blocks, channels)."""

    levels: tuple[Level, ...]
    values: NDArray[np.float32]

    def strips(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield (rows, the membrane there), float32, (rows, W, channels), from top to bottom.

        Values outside the mask mean nothing. Between the centers of blocks they are interpolated.
        """
        pixels = self.levels[0]
        height, width = len(pixels.heights), len(pixels.widths)
        for start in range(0, height, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, height)
            if len(self.levels) == 1:
                strip = np.zeros((stop - start, width, self.values.shape[1]), dtype=np.float32)
            else:
                # One more row of blocks on either side decides what lies between.
                above = max(start // 2 - 1, 0)
                strip = _twice_as_large(self._pairs[above : stop // 2 + 1])
                strip = strip[start - 2 * above : stop - 2 * above, :width]
            low, high = np.searchsorted(pixels.rows, (start, stop))
            strip[pixels.rows[low:high] - start, pixels.columns[low:high]] = self.values[low:high]
            yield slice(start, stop), strip

    @cached_property
    def _pairs(self) -> NDArray[np.float32]:
        """The membrane at half the mask's size, wherever there are blocks and right beside them."""
        finer = self.levels[-1]
        plane = np.zeros((*finer.filled.shape, self.values.shape[1]), dtype=np.float32)
        for number in range(len(self.levels) - 1, 0, -1):
            level, finer = self.levels[number], self.levels[number - 1]
            if number < len(self.levels) - 1:
                height, width = level.filled.shape
                plane = _twice_as_large(plane)[:height, :width]
            plane[level.rows, level.columns] = self.values[level.own]
            # Interpolation next to a block needs its divided neighbors: the means of their parts.
            rows, columns = np.nonzero(~level.filled & ~_eroded(~level.filled, margin=1))
            last_row, last_column = (length - 1 for length in finer.filled.shape)
            total = np.zeros((len(rows), self.values.shape[1]), dtype=np.float32)
            for down, right in np.ndindex(2, 2):
                row = np.minimum(2 * rows + down, last_row)
                column = np.minimum(2 * columns + right, last_column)
                total += self.values[finer.numbers[row + 1, column + 1]]
            plane[rows, columns] = total / 4
        return plane


def membrane_equations(
    mask: Mask, *, max_exact_pixels: int = MAX_EXACT_PIXELS
) -> MembraneEquations:
    """Set up the equations of the membrane over a mask.

    Args:
        mask: bool, (H, W), with at least one True; its border is the photo's border, or False.
        max_exact_pixels: a mask with more pixels is divided into blocks.
    """
    margins = MARGINS if np.count_nonzero(mask) > max_exact_pixels else ()
    levels = _divide(mask, margins)
    count = sum(len(level.rows) for level in levels)
    flows: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]] = []
    neighbors, receivers = [], []
    for level, coarser in zip(levels, (*levels[1:], None), strict=True):
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            rows, columns = level.rows + step[0], level.columns + step[1]
            near = level.numbers[rows + 1, columns + 1]
            lone = near == NO_BLOCK
            if sum(step) > 0:  # Once for each pair of blocks of the same size.
                flows.append(_flows(level, level, near, rows, columns, step))
            if coarser is not None:
                near = coarser.numbers[(rows >> 1) + 1, (columns >> 1) + 1]
                flows.append(_flows(level, coarser, near, rows >> 1, columns >> 1, step))
                lone &= near < 0
            if level is levels[0]:
                neighbors.append(rows[lone] * mask.shape[1] + columns[lone])
                receivers.append(level.own[lone])
    one, other, flow = (np.concatenate(parts) for parts in zip(*flows, strict=True))
    receiver = np.concatenate(receivers)
    links = sparse.coo_array((flow, (one, other)), shape=(count, count))
    _, part = connected_components(links, directed=False)
    held = np.zeros(count, dtype=bool)
    held[part[receiver]] = True
    diagonal = np.bincount(one, flow, count) + np.bincount(other, flow, count)
    # A part of the mask that nothing holds is tied to zero.
    diagonal = diagonal + np.bincount(receiver, minlength=count) + ~held[part]
    matrix = sparse.diags_array(diagonal.astype(np.float32)) - links - links.T
    return MembraneEquations(levels, matrix.tocsr(), np.concatenate(neighbors), receiver)


def _flows(
    level: Level,
    other: Level,
    near: NDArray[np.int32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    step: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return pairs of neighbors, the numbers ``near`` of the second given, and what flows.

    Face over distance of the centers; the face is that of the smaller block, of ``level``.
    """
    pair = near >= 0
    own_height, own_width = level.heights[level.rows[pair]], level.widths[level.columns[pair]]
    if step[0] != 0:
        flow = 2 * own_width / (own_height + other.heights[rows[pair]])
    else:
        flow = 2 * own_height / (own_width + other.widths[columns[pair]])
    return level.own[pair], near[pair], flow


def _divide(mask: Mask, margins: tuple[int, ...]) -> tuple[Level, ...]:
    """Divide a mask into blocks; no margins: into pixels."""
    whole, filled = mask, [mask]
    while margins and max(whole.shape) > 1 and filled[-1].any():
        margin = margins[min(len(filled), len(margins)) - 1]
        whole = _halved(whole)
        filled.append(_eroded(whole, margin=margin))
    if len(filled) > 1 and not filled[-1].any():
        filled.pop()
    levels: list[Level] = []
    first = 0
    for number, places in enumerate(filled):
        height, width = places.shape
        blocks = places.copy()
        for down, right in np.ndindex(2, 2) if number + 1 < len(filled) else ():
            part = blocks[down::2, right::2]
            part &= ~filled[number + 1][: part.shape[0], : part.shape[1]]
        rows, columns = np.divmod(np.flatnonzero(blocks), width)
        numbers = np.full((height + 2, width + 2), BEYOND_PHOTO, dtype=np.int32)
        numbers[1:-1, 1:-1] = NO_BLOCK
        numbers[rows + 1, columns + 1] = np.arange(first, first + len(rows), dtype=np.int32)
        heights, widths = (
            np.diff(np.minimum(np.arange(count + 1) * 2**number, length)).astype(np.float32)
            for count, length in zip(places.shape, mask.shape, strict=True)
        )
        levels.append(Level(numbers, places, rows, columns, first, heights, widths))
        first += len(rows)
    return tuple(levels)


def _halved(mask: Mask) -> Mask:
    """True where all four pixels are; those beyond the photo do not count."""
    height, width = mask.shape
    even = mask
    if height % 2 or width % 2:
        even = np.pad(mask, ((0, height % 2), (0, width % 2)), constant_values=True)
    return even[::2, ::2] & even[1::2, ::2] & even[::2, 1::2] & even[1::2, 1::2]


def _eroded(mask: Mask, *, margin: int) -> Mask:
    """True where all places of the square of 2 margin + 1 are; those beyond do not count."""
    for axis in (0, 1):
        every = mask.copy()
        for offset in range(1, min(margin + 1, mask.shape[axis])):
            ahead = (slice(None),) * axis + (slice(offset, None),)
            behind = (slice(None),) * axis + (slice(None, -offset),)
            every[behind] &= mask[ahead]
            every[ahead] &= mask[behind]
        mask = every
    return mask


def _twice_as_large(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate linearly between the centers of pixels; (h, w, C) to (2 h, 2 w, C)."""
    image = torch.from_numpy(plane).unsqueeze(0).permute(0, 3, 1, 2)
    large = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    enlarged: NDArray[np.float32] = large.permute(0, 2, 3, 1).contiguous()[0].numpy()
    return enlarged
