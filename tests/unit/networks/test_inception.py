"""The Inception network of FID against torch-fidelity's, see inception_golden.py."""

import json
from typing import Any

import pytest
import torch

from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.networks.inception import InceptionV3
from tests.unit.networks.inception_golden import EVERY, GOLDEN, photos, random_weights


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads(GOLDEN.read_text())


def test_names_and_shapes_are_those_of_the_published_weights(golden: Any) -> None:
    ours = {name: list(weight.shape) for name, weight in InceptionV3().state_dict().items()}
    assert ours == golden["shapes"]
    assert sum(name.endswith("conv.weight") for name in ours) == 94
    assert ours["fc.weight"] == [1008, 2048]


def test_features_are_those_of_an_independent_implementation(golden: Any) -> None:
    network = InceptionV3().eval()
    network.load_state_dict(random_weights())
    with torch.no_grad():
        features = network(to_model_range(photos()))
    assert features.shape == (2, 2048)
    expected = torch.tensor(golden["features"])
    torch.testing.assert_close(features[:, ::EVERY], expected, atol=1e-4, rtol=1e-5)
