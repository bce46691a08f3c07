"""The perceptual distance and the networks behind it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from neural_photo_editor.losses.perceptual import (
    PerceptualLoss,
    encoder_features,
    vgg19_features,
)
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

# torchvision's VGG19 configuration "E".
VGG19 = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"


@pytest.fixture
def distance() -> PerceptualLoss:
    torch.manual_seed(0)
    return PerceptualLoss(encoder_features(SegmentationUNet(widths=(8, 16), num_classes=3)))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.rand(2, 2, 3, 17, 20, generator=torch.Generator().manual_seed(1))
    return first * 2 - 1, second * 2 - 1


def test_zero_for_equal_images_and_grows_with_the_difference(distance: PerceptualLoss) -> None:
    image, other = images()
    near = image + 0.1 * (other - image)
    assert distance(image, image).item() == 0
    assert 0 < distance(near, image) < distance(other, image)


def test_a_segmenters_encoder_gives_a_map_of_each_level() -> None:
    segmenter = SegmentationUNet(widths=(8, 16), num_classes=3)
    image, _ = images()
    maps = encoder_features(segmenter)(image)
    assert [m.shape[:2] for m in maps] == [(2, 8), (2, 16)]
    assert maps[0].shape[-1] == 2 * maps[1].shape[-1]


def test_the_distance_of_a_batch_is_the_mean_of_its_photos(distance: PerceptualLoss) -> None:
    image, other = images()
    other[0] *= 0.1  # A dark photo beside a bright one.
    alone = [distance(image[i : i + 1], other[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(distance(image, other), torch.stack(alone).mean())


def test_gradient_reaches_the_image_and_not_the_network(distance: PerceptualLoss) -> None:
    image, other = images()
    image.requires_grad_()
    distance(image, other).backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())


def test_training_mode_does_not_reach_the_batch_statistics(distance: PerceptualLoss) -> None:
    before = {name: value.clone() for name, value in distance.state_dict().items()}
    distance.train()
    distance(*images())
    for name, value in distance.state_dict().items():
        assert torch.equal(value, before[name])


def test_vgg19_from_a_file_of_torchvisions_layout(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights, channels, index = {}, 3, 0
    for width in VGG19.split():
        if width == "M":
            index += 1
            continue
        shape = (int(width), channels, 3, 3)
        scale = (2 / (9 * channels)) ** 0.5
        weights[f"features.{index}.weight"] = scale * torch.randn(shape, generator=generator)
        weights[f"features.{index}.bias"] = torch.zeros(int(width))
        channels, index = int(width), index + 2
    assert index == 37
    save_file(weights | {"classifier.0.bias": torch.zeros(4)}, tmp_path / "vgg19.safetensors")

    features = vgg19_features(tmp_path / "vgg19.safetensors")
    image = images()[0]
    maps = features(image)
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512, 512]
    # By hand up to the second stage.
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    hidden = ((image + 1) / 2 - mean) / std
    for i in (0, 2):
        hidden = F.relu(F.conv2d(hidden, weights[f"features.{i}.weight"], padding=1))
        if i == 0:
            torch.testing.assert_close(maps[0], hidden)
    hidden = F.max_pool2d(hidden, 2)
    hidden = F.relu(F.conv2d(hidden, weights["features.5.weight"], padding=1))
    torch.testing.assert_close(maps[1], hidden)

    del weights["features.0.bias"]
    save_file(weights, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match="VGG19"):
        vgg19_features(tmp_path / "damaged.safetensors")
