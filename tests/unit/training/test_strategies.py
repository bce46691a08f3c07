"""What FSDP is given, and how processes leave their group."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.segmenter_module import SegmenterModule
from neural_photo_editor.training.strategies import make_strategy, shard_network

PROGRAM = """
import atexit, sys
import torch
from torch import distributed
from neural_photo_editor.training.strategies import leave_group_at_exit

# Handlers run last one first: this one comes after what the project registers.
atexit.register(lambda: print("in the group at exit:", distributed.is_initialized()))
if sys.argv[2] == "leaving":
    leave_group_at_exit()
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
"""


def test_batch_normalization_is_refused_by_fsdp_alone(rates: dict[str, Any]) -> None:
    module = SegmenterModule(SegmentationUNet(widths=(8, 8)), resolution=32, **rates)
    make_strategy("ddp", module=module, processes=2, timeout_s=60.0)
    with pytest.raises(
        ValueError, match=r"trainer\.strategy is fsdp.*batch norm.*set trainer\.strategy=ddp"
    ):
        make_strategy("fsdp", module=module, processes=2, timeout_s=60.0)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A group of this process alone."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    distributed.destroy_process_group()


def test_a_sharded_network_computes_the_same_in_the_order_of_its_images(mesh: DeviceMesh) -> None:
    torch.manual_seed(0)
    network = DenoisingUNet(widths=(16, 32), attention_levels=(1,), head_dim=16, num_groups=8)
    for parameter in network.parameters():  # Its last layers start at zero.
        nn.init.normal_(parameter, std=0.05)
    nhwc = torch.channels_last
    network.to(memory_format=nhwc)  # type: ignore[call-overload]
    image = torch.randn(2, 3, 16, 16).to(memory_format=nhwc)
    expected = network(image, torch.tensor([3, 400]))
    seen: list[bool] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append(output.is_contiguous(memory_format=nhwc))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    shard_network(network, mesh)
    assert isinstance(network, FSDPModule)
    torch.testing.assert_close(network(image, torch.tensor([3, 400])), expected)
    assert len(seen) > 10
    assert all(seen)


def test_the_group_is_left_before_the_interpreter_ends(tmp_path: Path) -> None:
    assert _run(tmp_path / "a", "leaving") == "in the group at exit: False"
    assert _run(tmp_path / "b", "staying") == "in the group at exit: True"


def _run(store: Path, how: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(store), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()
