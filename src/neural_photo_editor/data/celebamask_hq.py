"""CelebAMask-HQ: 30,000 faces of 1024 x 1024 pixels with 18 painted parts, in eleven regions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.api.codec import luma
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.common.regions import CELEBAMASK_HQ_TO_REGION
from neural_photo_editor.data.celeba import PARTITION_NAME, read_partition
from neural_photo_editor.data.photo_files import decode_rgb, listed_and_present, read_file
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.sources import (
    DirtyPolicy,
    Sample,
    SampleMetadata,
    UnusableFileError,
    check_dirty_policy,
)
from neural_photo_editor.data.transforms import describe_center_crop, resize_labels, resize_photo

_log = get_logger(__name__)

MAPPING_NAME = "CelebA-HQ-to-CelebA-mapping.txt"
LICENSE = "CelebAMask-HQ agreement (non-commercial research and education only)"
ATTRIBUTION = (
    "Lee et al., MaskGAN, CVPR 2020; Karras et al., Progressive Growing of GANs, ICLR 2018"
)

PARTS: tuple[str, ...] = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""The official classes 1 to 18. They overlap and are painted in this order, later over earlier."""

PART_SIDE = 512  # pixels; the photos have 1024

# Thirteen photos are in the data set twice, as neighbors. Of a pair the one named first is the
# copy to leave out: the training one where the pair lies across two splits, so that nothing of
# the val and test splits is trained on and they stay whole; else the second.
_DUPLICATES = {
    234: 235, 3330: 3329, 5163: 5162, 6771: 6770, 7385: 7384, 7562: 7561, 12444: 12445,
    12886: 12885, 13826: 13825, 15507: 15506, 19199: 19200, 20135: 20134, 24646: 24647,
}  # fmt: skip
_DEFECTS = {
    70: "half of the face is cropped away",
    404: "the mouth is not annotated",
    2110: "the annotation does not lie on the face",
    4790: "the annotation is empty",
} | {copy: f"the same photo as number {kept}" for copy, kept in _DUPLICATES.items()}


@dataclass(frozen=True)
class _Record:
    number: int  # of the photo in CelebAMask-HQ, from 0
    original: str  # the photo's file in CelebA
    split: Split


class CelebAMaskHQ:
    """CelebAMask-HQ with its parts painted into one map of eleven regions.

    Layout, as unpacked: ``FOLDER/CelebA-HQ-img/0.jpg``,
    ``FOLDER/CelebAMask-HQ-mask-anno/0/00000_skin.png`` (2,000 photos a sub-folder, one file a
    part, none for an absent part) and ``FOLDER/CelebA-HQ-to-CelebA-mapping.txt``. The split is
    CelebA's own, of the original photo: 24,183 train, 2,993 val, 2,824 test.

    Seventeen records are known to be wrong: 13 copies of another photo, 4 bad annotations.

    Args:
        folder: the data set's folder.
        partition: path of CelebA's ``list_eval_partition.txt``; None looks in `folder`.
        resolution: resize photos and label maps to this side; None keeps 1024 pixels (label maps
            are enlarged from 512).
        dirty: what to do with the seventeen, see :data:`DirtyPolicy`.

    Raises:
        ValueError: a folder or list is missing or malformed, the mapping does not fit the photos
            or the partition, or `dirty` is something else.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        partition: str | Path | None = None,
        resolution: int | None = 256,
        dirty: DirtyPolicy = "skip",
    ) -> None:
        check_dirty_policy(dirty)
        self.folder = Path(folder)
        self.resolution = resolution
        self.dirty = dirty
        self.masks = self.folder / "CelebAMask-HQ-mask-anno"
        if not self.masks.is_dir():
            raise ValueError(f"{self.masks} is not a folder: unpack the data set's masks there")
        mapping = self.folder / MAPPING_NAME
        list_file = self.folder / PARTITION_NAME if partition is None else Path(partition)
        self._records = _read_mapping(mapping, read_partition(list_file), partition_file=list_file)
        missing = listed_and_present(
            self.folder / "CelebA-HQ-img",
            {f"{record.number}.jpg" for record in self._records},
            suffix=".jpg",
            list_file=mapping,
        )
        if missing:
            _log.warning("%s lacks %d of %d photos", self.folder, missing, len(self))

    @property
    def crop(self) -> str:
        return describe_center_crop(self.resolution)

    def __len__(self) -> int:
        return len(self._records)

    def key(self, index: int) -> str:
        return f"celebamask-hq-{self._records[index].number:05d}"

    def name(self, index: int) -> str:
        return f"CelebA-HQ-img/{self._records[index].number}.jpg"

    def split(self, index: int) -> Split:
        return self._records[index].split

    def load(self, index: int) -> Sample:
        record = self._records[index]
        defect = _DEFECTS.get(record.number, "")
        if defect and self.dirty == "skip":
            raise UnusableFileError(f"known defect: {defect}")
        photo = decode_rgb(read_file(self.folder / self.name(index)))
        if photo.shape[0] != photo.shape[1]:
            raise UnusableFileError(
                f"the photo measures {photo.shape[1]} x {photo.shape[0]} pixels, not a square"
            )
        side = photo.shape[0] if self.resolution is None else self.resolution
        labels = resize_labels(self._paint_parts(record.number), width=side, height=side)
        metadata = SampleMetadata(
            source=f"CelebAMask-HQ {record.number} (CelebA {record.original})",
            license=LICENSE,
            attribution=ATTRIBUTION,
            note=defect,
        )
        return Sample(self.key(index), resize_photo(photo, size=side), labels, metadata)

    def _paint_parts(self, number: int) -> NDArray[np.uint8]:
        """Paint a photo's parts over each other and return region ids, uint8 (512, 512).

        Raises:
            UnusableFileError: a part is damaged or has another size, or there is none at all.
        """
        classes = np.zeros((PART_SIDE, PART_SIDE), dtype=np.uint8)
        num_parts = 0
        for class_id, part in enumerate(PARTS, start=1):
            path = self.masks / str(number // 2000) / f"{number:05d}_{part}.png"
            if path.is_file():
                classes[_read_part(path)] = class_id
                num_parts += 1
        if num_parts == 0 and number not in _DEFECTS:
            raise UnusableFileError("it has no masks: the folder of masks is not complete")
        return np.array(CELEBAMASK_HQ_TO_REGION, dtype=np.uint8)[classes]


def _read_part(path: Path) -> NDArray[np.bool_]:
    try:
        mask = decode_rgb(read_file(path))
    except UnusableFileError as error:
        raise UnusableFileError(f"its mask {path.name}: {error}") from error
    if mask.shape[:2] != (PART_SIDE, PART_SIDE):
        raise UnusableFileError(
            f"its mask {path.name} measures {mask.shape[1]} x {mask.shape[0]} pixels, "
            f"not {PART_SIDE} x {PART_SIDE}"
        )
    return luma(mask) > 127


def _read_mapping(
    path: Path, partition: dict[str, Split], *, partition_file: Path
) -> tuple[_Record, ...]:
    """Read which photo of CelebA each record is, in the order of the records' numbers.

    The columns are ``idx``, ``orig_idx`` (from 0) and ``orig_file`` (named from 1). Only the last
    one agrees with the partition's names: splitting by ``orig_idx`` is off by one.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: it is part of CelebAMask-HQ, unpack it there")
    records: dict[int, _Record] = {}
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "idx":
            continue
        where = f"{path}, line {line_number}"
        if len(fields) < 3 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise ValueError(
                f"{where}: {line[:80]!r} is not 'idx orig_idx orig_file', like "
                f"'0 119613 119614.jpg': take CelebAMask-HQ's own {MAPPING_NAME}"
            )
        number, original = int(fields[0]), fields[2]
        if number in records:
            raise ValueError(f"{where} lists {number} again: take the data set's own file")
        if original != f"{int(fields[1]) + 1:06d}.jpg":
            raise ValueError(
                f"{where}: orig_idx {fields[1]} and orig_file {original} are not the same photo "
                f"(the first counts from 0, the second from 1): take the data set's own file"
            )
        if original not in partition:
            raise ValueError(
                f"{partition_file} does not list {original}, which {where} names: take CelebA's "
                f"own {PARTITION_NAME}"
            )
        records[number] = _Record(number, original, partition[original])
    if not records:
        raise ValueError(f"{path} lists no photos: take CelebAMask-HQ's own {MAPPING_NAME}")
    return tuple(records[number] for number in sorted(records))
