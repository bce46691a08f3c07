"""The eleven face regions: ids, names and colors. The ids are fixed and travel in artifacts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """One face region.

    Attributes:
        id: label value in every label map, 0..10.
        name: lower-case English name used in requests and tables.
        color: (R, G, B) in 0..255 for overlays and legends.
    """

    id: int
    name: str
    color: tuple[int, int, int]


REGIONS: tuple[Region, ...] = (
    Region(0, "background", (38, 42, 51)),
    Region(1, "hair", (133, 88, 50)),
    Region(2, "hat", (236, 112, 46)),
    Region(3, "brow", (78, 52, 140)),
    Region(4, "ear", (232, 170, 110)),
    Region(5, "eye", (58, 134, 255)),
    Region(6, "lip", (217, 30, 82)),
    Region(7, "mouth", (120, 8, 48)),
    Region(8, "neck", (196, 140, 160)),
    Region(9, "nose", (255, 214, 102)),
    Region(10, "skin", (244, 202, 178)),
)
NUM_REGIONS = len(REGIONS)
REGION_NAMES: tuple[str, ...] = tuple(region.name for region in REGIONS)
REGION_MAP: dict[str, int] = {region.name: region.id for region in REGIONS}

CELEBAMASK_HQ_TO_REGION: tuple[int, ...] = (
    0, 10, 9, 10, 5, 5, 3, 3, 4, 4, 7, 6, 6, 1, 2, 4, 8, 8, 0,
)  # fmt: skip
"""Region id of each of CelebAMask-HQ's 19 official classes; left and right are merged."""


def region_id(name: str) -> int:
    """Return the id of a region.

    Raises:
        ValueError: no region has that name; the message lists those that exist.
    """
    if name not in REGION_MAP:
        raise ValueError(f"unknown region {name!r}; choose from {', '.join(REGION_NAMES)}")
    return REGION_MAP[name]


def colorize_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn a label map, uint8 (H, W) in 0..10, into a picture, uint8 (H, W, 3)."""
    palette = np.array([region.color for region in REGIONS], dtype=np.uint8)
    return palette[labels]
