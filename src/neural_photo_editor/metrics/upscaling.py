"""How near an enlarged photo comes to the original: pixels, structure, features and regions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.metrics.image_quality import psnr, psnr_y, ssim, ssim_y
from neural_photo_editor.metrics.segmentation import ConfusionMatrix

FeatureMaps = Callable[[Tensor], Sequence[Tensor]]
"""Photos, float (N, 3, H, W) in [-1, 1], to maps, float (N, C, h, w), of a frozen network."""
Segmenter = Callable[[Tensor], Tensor]
"""Photos, float (N, 3, H, W) in [-1, 1], to logits, float (N, regions, H, W)."""


@torch.no_grad()
def rate_upscaled(
    image: Tensor,
    target: Tensor,
    *,
    scale: int,
    features: FeatureMaps | None = None,
    segmenter: Segmenter | None = None,
) -> dict[str, Tensor]:
    """Compare enlarged photos with the originals.

    Args:
        image, target: float, (N, 3, H, W), in [-1, 1].
        scale: factor of the enlargement; so many pixels at the border do not count in luma.
        features: of the perceptual distance; without it that is left out.
        segmenter: without it the agreement of label maps is left out.

    Returns:
        One value per photo, (N,), by name: ``psnr`` and ``ssim`` over R, G and B, ``psnr_y`` and
        ``ssim_y`` over luma, ``perceptual`` (see `perceptual_distance`), ``segmenter_agreement``
        and ``segmenter_miou`` (see `region_agreement`).
    """
    ratings = {
        "psnr": psnr(image, target),
        "ssim": ssim(image, target),
        "psnr_y": psnr_y(image, target, border=scale),
        "ssim_y": ssim_y(image, target, border=scale),
    }
    if features is not None:
        ratings["perceptual"] = perceptual_distance(features(image), features(target))
    if segmenter is not None:
        ratings |= region_agreement(segmenter(image), segmenter(target))
    return ratings


def rate_beside_bicubic(
    image: Tensor,
    bicubic: Tensor,
    target: Tensor,
    *,
    scale: int,
    features: FeatureMaps | None = None,
    segmenter: Segmenter | None = None,
) -> dict[str, Tensor]:
    """Rate a network's and the bicubic enlargements of the same inputs, see `rate_upscaled`.

    Returns:
        The network's ratings, the bicubic ones with the suffix ``_bicubic``, and ``psnr_gain``, the
        difference of the two in PSNR, (N,).
    """
    ratings = {
        f"{name}{suffix}": value
        for suffix, enlarged in (("", image), ("_bicubic", bicubic))
        for name, value in rate_upscaled(
            enlarged, target, scale=scale, features=features, segmenter=segmenter
        ).items()
    }
    ratings["psnr_gain"] = ratings["psnr"] - ratings["psnr_bicubic"]
    return ratings


def perceptual_distance(maps: Sequence[Tensor], target_maps: Sequence[Tensor]) -> Tensor:
    """LPIPS (Zhang et al. 2018), Eq. 1, without its learned weights of channels.

    At each place the squared distance of the two feature vectors, each scaled to length 1; mean
    over places, sum over maps. With another network than LPIPS's its values cannot be compared
    with published ones: it ranks results that were rated with the same network.

    Args:
        maps, target_maps: of the two photos, as many float (N, C, h, w) each.

    Returns:
        float32, (N,), from 0, for equal photos, to 4 per map.
    """
    distances = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(maps, target_maps, strict=True)
    ]
    return torch.stack(distances).sum(0)


def region_agreement(logits: Tensor, target_logits: Tensor) -> dict[str, Tensor]:
    """Compare what a segmenter sees in two photos, by its logits, float (N, regions, H, W).

    Returns:
        ``segmenter_agreement``, the share of pixels with the same region, and ``segmenter_miou``,
        the mean IoU of the regions seen in the target; float64, (N,), 0..1, on the logits' device.
    """
    agreement, miou = [], []
    for labels, target in zip(logits.argmax(1), target_logits.argmax(1), strict=True):
        confusion = ConfusionMatrix(logits.shape[1])
        confusion.update(labels, target)
        agreement.append(confusion.pixel_accuracy())
        miou.append(confusion.mean_iou())
    # On the device: several processes average what is logged there.
    values = torch.tensor([agreement, miou], dtype=torch.float64, device=logits.device)
    return dict(zip(("segmenter_agreement", "segmenter_miou"), values, strict=True))
