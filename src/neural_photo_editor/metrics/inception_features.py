"""What the Inception network of FID sees in photos, with its weights from a local file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.metrics.feature_distance import Features, exact_convolutions
from neural_photo_editor.networks.inception import INPUT_SIDE, InceptionV3

_REMEDY = (
    "set inception_weights to pytorch-fid's pt_inception-2015-12-05-6726825d.pth, "
    "see docs/weights.md"
)
_COUNTER = ".num_batches_tracked"
"""Ends the names of training's counters, which files may hold or not: nothing reads them."""


def inception_features(network: InceptionV3) -> Features:
    """Return features whose distances compare with the literature's: see `fit_to_inception`.

    Args:
        network: in evaluation mode, on any device.

    Returns:
        A callable: float, (N, 3, H, W), in [-1, 1], of any size -> float64, (N, 2048), on the CPU.
    """

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        with exact_convolutions():
            seen: Tensor = network(fit_to_inception(images))
        return seen.double().cpu()

    return features


def fit_to_inception(images: Tensor) -> Tensor:
    """Resize photos to 299 pixels by "clean-fid" (Parmar et al. 2022): bicubic, antialiased.

    Not by the bilinear interpolation of the first implementations of FID: that reads single pixels
    of photos above 299 pixels, so artifacts between these go unseen and fine texture aliases. As
    there, nothing is rounded or clipped afterwards.

    Args:
        images: float, (N, 3, H, W), in [-1, 1].

    Returns:
        float, (N, 3, 299, 299), in [-1, 1] but for overshoots at edges.
    """
    size = (INPUT_SIDE, INPUT_SIDE)
    return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)


def load_inception(weights_file: Path) -> InceptionV3:
    """Build the network with the weights of a file, in evaluation mode, on the CPU.

    Args:
        weights_file: ``.safetensors``, or a ``.pth`` that holds nothing but weights, under
            pytorch-fid's names and of any precision.

    Raises:
        ValueError: the file is absent, holds anything else, or its names or shapes are not the
            network's; names the file and the first name that does not fit.
    """
    weights = {k: v for k, v in _read(weights_file).items() if not str(k).endswith(_COUNTER)}
    network = InceptionV3()
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    for name, weight in expected.items():
        if name not in weights:
            raise ValueError(f"{weights_file} lacks {name}: {_REMEDY}")
        if not isinstance(weights[name], Tensor) or weights[name].shape != weight.shape:
            raise ValueError(
                f"{weights_file}: {name} is no tensor of shape {tuple(weight.shape)}: {_REMEDY}"
            )
    for name in weights:
        if name not in expected:
            raise ValueError(f"{weights_file} holds {name}, which the network lacks: {_REMEDY}")
    network.load_state_dict(weights, strict=False)  # But for the counters it was strict.
    return network.eval().requires_grad_(False)


def _read(weights_file: Path) -> Mapping[Any, Any]:
    if not weights_file.is_file():
        raise ValueError(f"there is no file {weights_file}: {_REMEDY}")
    if weights_file.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"{weights_file} is neither .safetensors nor .pth: {_REMEDY}")
    try:
        if weights_file.suffix == ".safetensors":
            return load_file(weights_file)
        # Nothing but tensors and plain containers: other pickles can run code when they are read.
        content = torch.load(weights_file, map_location="cpu", weights_only=True)
    except Exception as error:  # Reading a damaged pickle may raise anything.
        # Without torch's own words: they advise to read it all the same.
        raise ValueError(
            f"{weights_file} is damaged or holds more than weights: {_REMEDY}"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{weights_file} holds no weights by name: {_REMEDY}")
    return content
