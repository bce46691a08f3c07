"""Features of torch-fidelity's Inception network, and how to make them again.

In an environment that has torch-fidelity beside this package (it needs torchvision, so it is no
dependency of the tests)::

    python -m tests.unit.networks.inception_golden
"""

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.networks.inception import InceptionV3

GOLDEN = Path(__file__).with_name("inception_golden.json")
EVERY = 16  # Of the features one in so many is kept: some of every branch.


def random_weights() -> dict[str, Tensor]:
    """Weights drawn for each name by itself, so that every name and shape counts."""
    return {name: _drawn(name, like) for name, like in InceptionV3().state_dict().items()}


def _drawn(name: str, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return like
    unit = numpy_generator("inception", name).random(like.shape, dtype="float32")
    drawn = torch.from_numpy(unit) * 2.0 - 1.0
    if like.ndim == 4:  # Such that a ReLU's output varies as much as its input.
        return drawn * (6.0 / like[0].numel()) ** 0.5
    if name.endswith(("bn.weight", "running_var")):
        return 1.0 + 0.5 * drawn
    return 0.2 * drawn


def photos() -> Tensor:
    """Two photos of colored squares, uint8 (2, 3, 299, 299)."""
    squares = numpy_generator("inception", "photos").integers(0, 256, (2, 3, 23, 23), dtype="uint8")
    return torch.from_numpy(squares.repeat(13, axis=2).repeat(13, axis=3))


def main() -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/weights.pth"
        torch.save(random_weights(), file)
        theirs = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=file)
    with torch.no_grad():
        (features,) = theirs(photos())
    golden = {
        "shapes": {name: list(weight.shape) for name, weight in theirs.state_dict().items()},
        "features": [[round(x, 6) for x in row] for row in features[:, ::EVERY].tolist()],
    }
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
