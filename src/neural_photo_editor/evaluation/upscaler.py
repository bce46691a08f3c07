"""Judging an upscaler against bicubic interpolation: pixels, luma, features and regions."""

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.held_out import Batches
from neural_photo_editor.evaluation.pictures import enlarge, save_grid, to_pictures
from neural_photo_editor.imaging.degradation import BICUBIC, Degradation, bicubic_upscale
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.losses.perceptual import encoder_features
from neural_photo_editor.metrics.upscaling import rate_beside_bicubic
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

PICTURE_PX = 256


def evaluate_upscaler(
    network: nn.Module,
    batches: Batches,
    *,
    scale: int,
    out_dir: Path,
    degradation: Degradation = BICUBIC,
    segmenter: SegmentationUNet | None = None,
    num_images: int = 4,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> EvaluationResult:
    """Shrink held-out photos, enlarge them again and compare with the originals.

    Args:
        network: low resolution -> high resolution.
        batches: held-out photos; sides divisible by ``scale``.
        scale: the factor.
        out_dir: receives ``upscaling.png``, a row each of bicubic enlargements, the network's and
            the truth.
        degradation: how photos are shrunk.
        segmenter: adds the distance of its features and the agreement of its label maps, see
            `rate_upscaled`.
        num_images: photos in the picture.
        seed: of the degradation.
        device: where to compute.

    Raises:
        ValueError: there are no photos.
    """
    network = network.to(device)
    features = None if segmenter is None else encoder_features(segmenter.to(device).eval())
    values: dict[str, list[Tensor]] = defaultdict(list)
    shown: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    with torch.inference_mode():
        for batch in batches:
            high = to_model_range(batch["image"]).to(device)
            ids = batch["sample_id"].tolist()
            low = degradation.shrink(high, scale, seed=seed, epoch=0, sample_ids=ids)
            bicubic = bicubic_upscale(low, scale)
            upscaled = network(low).float().clamp(-1.0, 1.0)
            rated = rate_beside_bicubic(
                upscaled, bicubic, high, scale=scale, features=features, segmenter=segmenter
            )
            for name, value in rated.items():
                values[name].append(value.cpu())
            for kept, images in zip(shown, (bicubic, upscaled, high), strict=True):
                kept += list(images[: max(0, num_images - len(kept))].cpu())
    if not values:
        raise ValueError("there are no held-out photos to evaluate the upscaler on")
    metrics = {name: float(torch.cat(parts).mean()) for name, parts in values.items()}
    rows = [[enlarge(p, PICTURE_PX) for p in to_pictures(torch.stack(row))] for row in shown]
    save_grid(rows, out_dir / "upscaling.png")
    num_samples = sum(len(part) for part in values["psnr"])
    return EvaluationResult("upscaler", num_samples, metrics, ["upscaling.png"])
