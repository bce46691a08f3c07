"""The frozen networks that an upscaler's results are shown to."""

from pathlib import Path

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.losses.perceptual import (
    PerceptualLoss,
    encoder_features,
    vgg19_features,
)
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.checkpoint import network_weights, read_checkpoint

log = get_logger(__name__)


def make_perceptual_loss(
    kind: str, *, segmenter_checkpoint: str | Path | None, vgg19_weights: str | Path | None
) -> PerceptualLoss | None:
    """Build the perceptual distance from a file.

    Args:
        kind: "segmenter" (the encoder of a trained segmenter), "vgg19" or "none".
        segmenter_checkpoint: checkpoint of a segmenter's run, for "segmenter".
        vgg19_weights: safetensors file with torchvision's names, for "vgg19".

    Raises:
        ValueError: another kind, or its file is absent or of another network.
    """
    if kind == "none":
        return None
    if kind == "segmenter":
        if segmenter_checkpoint is None or not Path(segmenter_checkpoint).is_file():
            raise ValueError(
                f"module.perceptual.segmenter_checkpoint: there is no file {segmenter_checkpoint}; "
                "train the segmenter first, name its checkpoint, or set module.perceptual.kind to "
                "vgg19 or none"
            )
        return PerceptualLoss(encoder_features(_load_segmenter(Path(segmenter_checkpoint))))
    if kind == "vgg19":
        if vgg19_weights is None or not Path(vgg19_weights).is_file():
            raise ValueError(
                f"module.perceptual.vgg19_weights: there is no file {vgg19_weights}; name a "
                "safetensors file of VGG19, or set module.perceptual.kind to segmenter or none"
            )
        return PerceptualLoss(vgg19_features(Path(vgg19_weights)))
    raise ValueError(f"module.perceptual.kind is {kind!r}; choose one of segmenter, vgg19, none")


def make_segmenter(checkpoint: str | Path | None) -> SegmentationUNet | None:
    """Load the segmenter whose label maps validation compares, frozen; None where there is none.

    Raises:
        ValueError: the checkpoint is of another network.
    """
    if checkpoint is None:
        return None
    if not Path(checkpoint).is_file():
        log.warning("there is no segmenter at %s: label maps are not compared", checkpoint)
        return None
    return _load_segmenter(Path(checkpoint)).eval().requires_grad_(False)


def _load_segmenter(checkpoint: Path) -> SegmentationUNet:
    content = read_checkpoint(checkpoint)
    name = content.get("network", {}).get("name")
    if name != SegmentationUNet.__name__:
        raise ValueError(
            f"module.perceptual.segmenter_checkpoint: {checkpoint} holds {name}, not a segmenter"
        )
    segmenter = SegmentationUNet(**content["network"]["config"])
    segmenter.load_state_dict(network_weights(content))
    return segmenter
