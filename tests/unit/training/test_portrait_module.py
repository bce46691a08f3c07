"""What the three modules share; the tests of each of them cover the rest."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.utils import _to_kwargs

from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.optimizers import muon
from neural_photo_editor.training.portrait_module import Batch, learning_rates
from neural_photo_editor.training.segmenter_module import SegmenterModule


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


def test_ddp_leaves_the_sample_ids_on_the_host(rates: dict[str, Any], batches: list[Batch]) -> None:
    network = SegmentationUNet(widths=(8, 16), blocks_per_level=1)
    module = SegmenterModule(network, resolution=32, **rates)
    device = torch.device("meta")  # Nothing can be read back from it.
    batch = module.transfer_batch_to_device(batches[1], device, 0)
    # What DistributedDataParallel does with its inputs where it is given a device.
    (moved,), _ = _to_kwargs((batch,), {}, device, False)
    assert moved[0]["image"].device == moved[0]["labels"].device == device
    assert moved[0]["sample_id"].tolist() == [4, 5, 6, 7]
