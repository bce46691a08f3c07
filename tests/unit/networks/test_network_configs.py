"""Every file in conf/network builds its network, and says nothing that the network does not use."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = sorted((Path(__file__).parents[3] / "conf" / "network").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_from_the_file(path: Path) -> None:
    settings = OmegaConf.load(path)
    with torch.device("meta"):  # shapes only: the full-size networks are large
        network = instantiate(settings)
    given = {key: value for key, value in OmegaConf.to_object(settings).items() if key[0] != "_"}
    assert given.items() <= network.config.items()


def test_there_is_a_full_and_a_demo_size_of_each() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "denoising_unet_128",
        "denoising_unet_demo",
        "discriminator",
        "discriminator_demo",
        "segmentation_unet_128",
        "segmentation_unet_demo",
        "srresnet_demo",
        "srresnet_x4",
    }
