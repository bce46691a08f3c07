"""The photos that drawn images are compared with, and the network they are compared by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neural_photo_editor.common.fingerprint import sha256_file, sha256_json
from neural_photo_editor.data.shard_dataset import ShardDataset
from neural_photo_editor.data.shard_manifest import Split
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_stream import BatchRequest
from neural_photo_editor.data.storage import ShardStorage
from neural_photo_editor.imaging.geometry import resize
from neural_photo_editor.metrics.feature_distance import Features, segmenter_features
from neural_photo_editor.metrics.inception_features import inception_features, load_inception
from neural_photo_editor.networks.inception import INPUT_SIDE
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet


class References:
    """The first photos of a split, in the manifest's order, framed as training frames them.

    Args:
        storage: the shards.
        split: "train", "val" or "test".
        count: photos; None takes all.
        resolution, crop_size: as the denoiser was trained, but in the center and unflipped.

    Raises:
        ValueError: the split has fewer photos.
    """

    def __init__(
        self,
        storage: ShardStorage,
        *,
        split: Split,
        count: int | None,
        resolution: int,
        crop_size: int | None,
    ) -> None:
        reader = ShardReader(storage)
        ids = reader.sample_ids(split).tolist()
        if count is not None and count > len(ids):
            raise ValueError(
                f"references.count is {count}, but {storage} has {len(ids)} photos of split "
                f"{split}: lower it, or set it to null for all"
            )
        self._ids: list[int] = ids[:count]
        self._dataset = ShardDataset(reader, resolution=resolution, crop_size=crop_size)
        self.protocol: dict[str, Any] = {
            "data_set": reader.manifest.name,
            "manifest_digest": reader.manifest.digest,
            "split": split,
            "count": len(self._ids),
            "keys_sha256": sha256_json([reader.key(sample_id) for sample_id in self._ids]),
            "crop_size": crop_size,
        }

    def __len__(self) -> int:
        return len(self._ids)

    def photos(self, numbers: Sequence[int]) -> Tensor:
        """Return photos by their number among the references, uint8, (N, 3, R, R)."""
        ids = tuple(self._ids[number] for number in numbers)
        batch = self._dataset[BatchRequest(0, ids)]
        assert isinstance(batch, dict)
        return batch["image"]


@dataclass(frozen=True)
class FeatureView:
    """What images are compared by.

    Attributes:
        network: its name and what its features are.
        weights_sha256: digest of its weights' file.
        resize: how images get to its size, in words.
        features: float, (N, 3, R, R), in [-1, 1], of any R -> float64, (N, D), on the CPU.
    """

    network: str
    weights_sha256: str
    resize: str
    features: Features = field(repr=False)

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
        }


def inception_view(weights_file: Path, *, device: object) -> FeatureView:
    """See with the Inception network of the literature.

    Raises:
        ValueError: see `load_inception`.
    """
    network = load_inception(weights_file).to(device)  # type: ignore[call-overload]
    resizing = (
        f"bicubic, antialiased, to {INPUT_SIDE} pixels in float32, neither rounded nor clipped"
    )
    return FeatureView(
        "InceptionV3 of 2015-12-05, pool3", sha256_file(weights_file), resizing,
        inception_features(network),
    )  # fmt: skip


def segmenter_view(
    segmenter: nn.Module, weights_file: Path, *, side: int, device: object
) -> FeatureView:
    """See with a segmenter: needs no weights from elsewhere, compares with nobody else's figures.

    Args:
        segmenter: in evaluation mode.
        weights_file: where it was read from.
        side: its resolution, in pixels.

    Raises:
        ValueError: it is no segmenter.
    """
    if not isinstance(segmenter, SegmentationUNet):
        raise ValueError(f"features.segmenter names a {type(segmenter).__name__}, no segmenter")
    features = segmenter_features(segmenter.to(device))  # type: ignore[call-overload]
    return FeatureView(
        "SegmentationUNet, means and deviations of the last layer's channels",
        sha256_file(weights_file),
        f"bicubic, antialiased, to {side} pixels in float32, clipped to the value range",
        lambda images: features(resize(images, (side, side))),
    )
