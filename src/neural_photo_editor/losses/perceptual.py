"""Perceptual distance: how far two images are apart in a frozen network's features."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import pad_to_multiple
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

# Convolutions of VGG19 by stage; torchvision numbers its `features.{i}` over convolutions, ReLUs
# and pools alike.
_VGG19_STAGES = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """Mean squared distance of features (Johnson et al. 2016, Eq. 2; SRGAN, Eq. 5).

    Deviation: each photo's feature map is divided by the root mean square of its target's, so that
    maps of different networks and depths weigh the same.

    Args:
        features: maps images, (N, 3, H, W) in [-1, 1], to a list of feature maps. It is frozen and
            kept in evaluation mode.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "PerceptualLoss":  # noqa: ARG002
        """Stay in evaluation mode: batch statistics of the images must not enter the distance."""
        return super().train(False)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """image, target: float, (N, 3, H, W), in [-1, 1]. Returns a float32 scalar >= 0."""
        with torch.no_grad():
            target_maps = [m.float() for m in self.features(target)]
        distances = [
            # Photo by photo: the mean over processes is then that of the whole batch.
            (a.float() - b).square().mean((1, 2, 3)) / b.square().mean((1, 2, 3)).clamp(min=1e-8)
            for a, b in zip(self.features(image), target_maps, strict=True)
        ]
        return torch.stack(distances).mean()


class _SegmenterFeatures(nn.Module):
    def __init__(self, segmenter: SegmentationUNet) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.segmenter.encode(pad_to_multiple(x, self.segmenter.image_multiple))


class _VGG19Features(nn.Module):
    """The map of the first convolution of each stage, after its ReLU."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        taps: list[int] = []
        channels = 3
        for stage in _VGG19_STAGES:
            for index, width in enumerate(stage):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
                if index == 0:
                    taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        # What follows the last tap is never computed, yet belongs to the weights file.
        self.features = nn.Sequential(*layers)
        self.taps = taps
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = ((x + 1) / 2 - self.mean) / self.std
        maps: list[Tensor] = []
        for index in range(self.taps[-1] + 1):
            hidden = self.features[index](hidden)
            if index in self.taps:
                maps.append(hidden)
        return maps


def encoder_features(segmenter: SegmentationUNet) -> nn.Module:
    """Return a trained segmenter's encoder: features that know faces, no download.

    Returns:
        A network: float, (N, 3, H, W), in [-1, 1] -> a map of each level, float, (N, C, h, w). Not
        to be taken for `metrics.feature_distance.segmenter_features`, one vector for each photo.
    """
    return _SegmenterFeatures(segmenter)


def vgg19_features(weights_file: Path) -> nn.Module:
    """relu1_1 .. relu5_1 of VGG19 (Simonyan & Zisserman 2015), weights from a file.

    Args:
        weights_file: safetensors with torchvision's names, `features.0.weight` and so on; the
            classifier's are ignored.

    Raises:
        ValueError: the file is not VGG19.
    """
    network = _VGG19Features()
    weights = load_file(weights_file)
    try:
        network.load_state_dict({k: v for k, v in weights.items() if k.startswith("features.")})
    except RuntimeError as error:
        raise ValueError(
            f"{weights_file} does not hold VGG19's convolutions under torchvision's names "
            f"(features.0.weight ...): {error}"
        ) from error
    return network
