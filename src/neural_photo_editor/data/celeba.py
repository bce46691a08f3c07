"""CelebA, aligned and cropped: 202,599 photos of 178 x 218 pixels with the official split."""

from array import array
from pathlib import Path
from typing import Final

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.photo_files import decode_rgb, listed_and_present, read_file
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.sources import Sample, SampleMetadata, UnusableFileError
from neural_photo_editor.data.transforms import crop_to_square, describe_center_crop

_log = get_logger(__name__)

PARTITION_NAME = "list_eval_partition.txt"
LICENSE = "CelebA agreement (non-commercial research only)"
ATTRIBUTION = "Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015"

_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")  # as the partition file numbers them
_WIDTH, _HEIGHT = 178, 218


class CelebA:
    """CelebA's ``img_align_celeba``, without labels.

    Layout: ``FOLDER/img_align_celeba/000001.jpg`` to ``202599.jpg`` and
    ``FOLDER/list_eval_partition.txt``, which lists the samples and their splits.

    Args:
        folder: the data set's folder.
        partition: path of ``list_eval_partition.txt`` where it lies elsewhere.
        resolution: cut the central 178 x 178 pixels and resize them to this side; None keeps
            photos of 178 x 218 pixels.

    Raises:
        ValueError: the folder or the list is missing or malformed, or they do not belong together.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        partition: str | Path | None = None,
        resolution: int | None = 128,
    ) -> None:
        self.photos = Path(folder) / "img_align_celeba"
        self.resolution = resolution
        list_file = Path(folder) / PARTITION_NAME if partition is None else Path(partition)
        splits = read_partition(list_file)
        self._files = list(splits)
        # One byte a sample: sources travel to every worker process.
        self._splits = array("B", (_SPLITS.index(split) for split in splits.values()))
        missing = listed_and_present(
            self.photos, set(self._files), suffix=".jpg", list_file=list_file
        )
        if missing:
            _log.warning("%s lacks %d of %d photos", self.photos, missing, len(self))

    @property
    def crop(self) -> str:
        return describe_center_crop(self.resolution)

    def __len__(self) -> int:
        return len(self._files)

    def key(self, index: int) -> str:
        return f"celeba-{self._files[index].removesuffix('.jpg')}"

    def name(self, index: int) -> str:
        return f"img_align_celeba/{self._files[index]}"

    def split(self, index: int) -> Split:
        return _SPLITS[self._splits[index]]

    def load(self, index: int) -> Sample:
        photo = decode_rgb(read_file(self.photos / self._files[index]))
        height, width = photo.shape[:2]
        if (width, height) != (_WIDTH, _HEIGHT):
            raise UnusableFileError(
                f"the photo measures {width} x {height} pixels, CelebA's {_WIDTH} x {_HEIGHT}"
            )
        if self.resolution is not None:
            photo, _ = crop_to_square(photo, None, size=self.resolution)
        metadata = SampleMetadata(f"CelebA {self.name(index)}", LICENSE, ATTRIBUTION)
        return Sample(self.key(index), photo, None, metadata)


def read_partition(path: Path) -> dict[str, Split]:
    """Read CelebA's ``list_eval_partition.txt``: lines like ``000001.jpg 0`` -> {file: split}.

    0, 1 and 2 mean train, val and test. The official file ends train at 162770.jpg and val at
    182637.jpg.

    Raises:
        ValueError: missing, or a line that is not of this form or names a file twice.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: it is part of CelebA (folder Eval); put it there or set "
            "source.partition to its path"
        )
    splits: dict[str, Split] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match line.split():
            case []:
                continue
            case [file, ("0" | "1" | "2") as split] if file.endswith(".jpg") and file not in splits:
                splits[file] = _SPLITS[int(split)]
            case _:
                raise ValueError(
                    f"{path}, line {number}: {line[:80]!r} is not a new file and its split, like "
                    "'000001.jpg 0': take CelebA's own list_eval_partition.txt"
                )
    if not splits:
        raise ValueError(f"{path} is empty: take CelebA's own {PARTITION_NAME}")
    return splits
