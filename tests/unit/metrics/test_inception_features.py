"""Weights of the Inception network from files, and the photos it is shown."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.imaging.value_range import photo_to_tensor
from neural_photo_editor.metrics.feature_distance import frechet_distance, kernel_distance
from neural_photo_editor.metrics.inception_features import (
    fit_to_inception,
    inception_features,
    load_inception,
)
from neural_photo_editor.networks.inception import InceptionV3
from tests.unit.networks.inception_golden import random_weights

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def drawn() -> Weights:
    return random_weights()


@pytest.fixture
def small() -> Weights:
    """Weights that are all the same, so that a pickle of them takes next to nothing."""
    shapes = {name: weight.shape for name, weight in InceptionV3().state_dict().items()}
    return {name: torch.full((), 0.01).expand(shape) for name, shape in shapes.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inception.pth"


def test_weights_come_from_safetensors_of_any_precision(drawn: Weights, tmp_path: Path) -> None:
    path = tmp_path / "inception.safetensors"
    halves = {k: v.bfloat16() for k, v in drawn.items() if not k.endswith("num_batches_tracked")}
    save_file(halves, path)
    network = load_inception(path)
    path.unlink()  # 48 MB are not kept for later looks.
    assert not network.training
    for name, weight in network.state_dict().items():
        if name in halves:
            assert weight.dtype == torch.float32
            assert torch.equal(weight, halves[name].float())


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_come_from_both_formats_of_pickles(
    small: Weights, file: Path, zipped: bool
) -> None:
    torch.save(small, file, _use_new_zipfile_serialization=zipped)
    network = load_inception(file)
    assert torch.equal(network.fc.bias, torch.full((1008,), 0.01))
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_names_and_shapes_that_do_not_fit_are_named(small: Weights, file: Path) -> None:
    name = "Mixed_6c.branch7x7dbl_4.conv.weight"
    cases = {
        f"inception.pth lacks {name}": {k: v for k, v in small.items() if k != name},
        rf"inception.pth: {name} is no tensor of shape \(160, 160, 7, 1\)": {
            **small,
            name: small[name].mT,
        },
        "inception.pth: fc.bias is no tensor": {**small, "fc.bias": 0.5},
        "inception.pth holds AuxLogits.fc.bias, which": {
            **small,
            "AuxLogits.fc.bias": torch.ones(1),
        },
        "holds no weights by name": [small["fc.bias"]],
    }
    for message, content in cases.items():
        torch.save(content, file)
        with pytest.raises(ValueError, match=rf"{message}.*pt_inception-2015-12-05"):
            load_inception(file)


class Command:
    """Pickled, it runs a command when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_code_is_refused_and_does_not_run(small: Weights, file: Path) -> None:
    trace = file.with_name("trace")
    torch.save({**small, "fc.bias": Command(trace)}, file)
    with pytest.raises(ValueError, match=r"inception\.pth is damaged or holds more"):
        load_inception(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)  # The trap itself works.
    assert trace.exists()


def test_files_that_hold_no_weights_are_refused(small: Weights, file: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*docs/weights\.md"):
        load_inception(file)
    torch.save(small, file)
    whole = file.read_bytes()
    torch.save(small, file, _use_new_zipfile_serialization=False)
    old = file.read_bytes()
    # Within the names of the old format torch raises whatever comes.
    for content in (b"", b"no weights", whole[: len(whole) // 2], whole[:-30], old[:200], old[:-4]):
        for suffix in (".pth", ".safetensors"):
            broken = file.with_name(f"broken{suffix}")
            broken.write_bytes(content)
            with pytest.raises(ValueError, match=f"broken{suffix} is damaged or holds more"):
                load_inception(broken)
    other = file.rename(file.with_name("inception.pkl"))
    with pytest.raises(ValueError, match=r"neither \.safetensors nor \.pth"):
        load_inception(other)


@pytest.mark.parametrize("side", [96, 299, 400])
def test_photos_are_resized_as_clean_fid_does(side: int) -> None:
    """By Pillow, in floats, a channel at a time (Parmar et al. 2022)."""
    photo = generate_portrait(0, 1, resolution=side).photo
    resized = [
        Image.fromarray(photo[..., c].astype(np.float32)).resize(
            (299, 299), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    expected = torch.from_numpy(np.stack([np.asarray(x) for x in resized])) / 127.5 - 1.0
    torch.testing.assert_close(
        fit_to_inception(photo_to_tensor(photo))[0], expected, atol=1e-4, rtol=0
    )


def test_features_have_a_kernel_distance_and_with_few_photos_no_frechet_distance(
    drawn: Weights,
) -> None:
    network = InceptionV3().eval()
    network.load_state_dict(drawn)
    photos = [photo_to_tensor(generate_portrait(0, i, resolution=64).photo) for i in range(4)]
    features = inception_features(network)(torch.cat(photos))
    assert features.shape == (4, 2048)
    assert features.dtype == torch.float64
    assert np.isfinite(kernel_distance(features[:2], features[2:]))
    with pytest.raises(ValueError, match="at least 2049"):
        frechet_distance(features[:2], features[2:])
