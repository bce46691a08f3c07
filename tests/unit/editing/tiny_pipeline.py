"""A pipeline of networks that are known in closed form, and photos to send through it."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet


class TowardsPaint(nn.Module):
    """The optimal denoiser of data N(0, 0.7^2) per pixel: counts its calls, sees no neighbors."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_sizes: list[int] = []
        self.schedule = NoiseSchedule.linear()

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.batch_sizes.append(x_t.shape[0])
        alpha_bar_t = self.schedule.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        return (1 - alpha_bar_t).sqrt() * x_t / (alpha_bar_t * 0.49 + 1 - alpha_bar_t)


class ColorSegmenter(nn.Module):
    """Red is hair (1), green is skin (10), everything else background."""

    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = x.unbind(dim=1)
        logits = torch.full((x.shape[0], 11, *x.shape[2:]), -9.0)
        logits[:, 0], logits[:, 1], logits[:, 10] = blue, red, green
        return logits


class Bicubic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4.0, mode="bicubic")


def defaults(**changes: Any) -> ServingDefaults:
    return ServingDefaults(
        **{"sampler": "ddim", "steps": 5, "strength": 0.4, "feather_px": 2, **changes}
    )


def make_pipeline(**changes: Any) -> EditPipeline:
    arguments: dict[str, Any] = {
        "denoiser": TowardsPaint(),
        "segmenter": ColorSegmenter(),
        "upscaler": Bicubic(),
        "schedule": NoiseSchedule.linear(),
        "defaults": defaults(),
        "bundle_digest": "abc123",
        "resolution": 32,
        "segmenter_resolution": 32,
    }
    return EditPipeline(**{**arguments, **changes})


def random_networks(seed: int = 0) -> dict[str, nn.Module]:
    """Return small networks of the real kinds; some layers would start at zero."""
    torch.manual_seed(seed)
    networks: dict[str, nn.Module] = {
        "denoiser": DenoisingUNet(
            widths=(32, 32), blocks_per_level=1, attention_levels=(1,), head_dim=32
        ),
        "segmenter": SegmentationUNet(widths=(8, 16), blocks_per_level=1),
        "upscaler": SRResNet(width=8, num_blocks=1),
    }
    for network in networks.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.05)
    return networks


def make_photo(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Red above, green below right, blue below left, with noise."""
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[..., 2] = 200
    photo[: height // 2] = (200, 20, 20)
    photo[height // 2 :, width // 2 :] = (20, 200, 20)
    noise = np.random.default_rng(seed).integers(0, 40, photo.shape)
    return (photo + noise).astype(np.uint8)


def make_mask(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = True
    return mask


def mask_png(mask: np.ndarray) -> bytes:
    return encode_png(mask.astype(np.uint8) * np.uint8(255))


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def edit_request(photo: np.ndarray, **fields: Any) -> EditRequest:
    fields = {"mask": mask_png(make_mask(*photo.shape[:2])), "seed": 1, **fields}
    return EditRequest(photo=encode_png(photo), **fields)


def answer_one(pipeline: EditPipeline, request: Any) -> Any:
    (answer,) = pipeline.run([request])
    assert not isinstance(answer, RequestError), answer
    return answer
