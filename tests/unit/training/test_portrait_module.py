"""What the three modules share; the tests of each of them cover the rest."""

import pytest
import torch
from torch import nn

from neural_photo_editor.training.optimizers import muon
from neural_photo_editor.training.portrait_module import learning_rates


def test_every_rate_has_a_name_of_its_own() -> None:
    hidden, rest, other = (nn.Parameter(torch.zeros(shape)) for shape in ((40, 40), (40,), (3,)))
    mixed = muon([hidden, rest], lr=0.02, adamw_lr=0.003)
    adam = torch.optim.Adam([other], lr=0.1)
    assert learning_rates([adam]) == {"train/lr": 0.1}
    assert learning_rates([mixed]) == {"train/lr": 0.02, "train/lr_adamw": 0.003}
    assert learning_rates([adam, mixed]) == {
        "train/lr": 0.1,
        "train/lr_discriminator": 0.02,
        "train/lr_discriminator_adamw": 0.003,
    }
    groups = torch.optim.SGD([{"params": [rest]}, {"params": [other], "lr": 0.5}], lr=0.25)
    assert learning_rates([groups]) == {"train/lr": 0.25, "train/lr_1": 0.5}
    assert learning_rates([muon([rest], lr=0.02, adamw_lr=0.003)]) == {
        "train/lr": pytest.approx(0.003)
    }
