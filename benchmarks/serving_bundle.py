"""What the serving benchmarks serve: networks of fixed widths with drawn weights, and one edit.

Weights drawn from a seed cost what trained ones cost. Only the segmenter must know the portrait it
will see: where it saw no face, or many, the photo would be searched in many squares.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.image_encoding import encode_image
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

SERVE = Path(__file__).resolve().parent.parent / "serve"
RESOLUTION = 128  # pixels, of the networks
PHOTO_SIDE = 512  # pixels
STEPS = 20
PHOTO_SEED = 3
LESSONS = 120  # of the segmenter: seconds


def make_bundle(folder: Path, *, edits_at_once: int) -> Path:
    """Write the bundle below a folder; returns its .mar."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    denoiser = DenoisingUNet(
        widths=(32, 48, 96, 128), blocks_per_level=1, attention_levels=(), num_groups=16
    )
    segmenter = _segmenter()
    upscaler = SRResNet(scale=4, width=32, num_blocks=4)
    with tempfile.TemporaryDirectory() as registry:
        model_config = yaml.safe_load((SERVE / "model-config.yaml").read_text())
        model_config["handler"] |= {"torch_threads": 1, "edits_at_once": edits_at_once}
        (Path(registry) / "model-config.yaml").write_text(yaml.safe_dump(model_config))
        export = partial(
            export_artifact,
            config_yaml="{}\n",
            preview_png=None,
            provenance={},
            metrics={},
            registry=Path(registry),
        )
        common: dict[str, Any] = {"resolution": RESOLUTION, "schedule": None, "scale": None}
        schedule = NoiseSchedule.linear().to_spec()
        for kind, network, own in (
            ("denoiser", denoiser, {"schedule": schedule}),
            ("segmenter", segmenter, {}),
            ("upscaler", upscaler, {"scale": 4}),
        ):
            export(network, name=kind, metadata={**common, "kind": kind, **own})
        return build_bundle(
            Path(registry),
            denoiser="denoiser@latest",
            segmenter="segmenter@latest",
            upscaler="upscaler@latest",
            defaults=ServingDefaults(sampler="ddim", steps=STEPS),
            handler=SERVE / "handler.py",
            model_config=Path(registry) / "model-config.yaml",
            out_dir=folder,
        )


def _segmenter() -> SegmentationUNet:
    """Return a segmenter that has learned the portrait by heart."""
    portrait = generate_portrait(seed=PHOTO_SEED, index=0, resolution=RESOLUTION)
    image = to_model_range(portrait.photo).permute(2, 0, 1)[None]
    labels = torch.from_numpy(portrait.labels).long()[None]
    segmenter = SegmentationUNet(widths=(16, 32, 64, 128), blocks_per_level=1)
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=0.01)
    for _ in range(LESSONS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(segmenter(image), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return segmenter.eval()


def edit_request() -> EditRequest:
    """Return the edit that every measurement sends: a part of a portrait is given a color."""
    portrait = generate_portrait(seed=PHOTO_SEED, index=0, resolution=PHOTO_SIDE).photo
    mask: NDArray[np.uint8] = np.zeros((PHOTO_SIDE, PHOTO_SIDE), dtype=np.uint8)
    mask[PHOTO_SIDE // 8 : PHOTO_SIDE // 2, PHOTO_SIDE // 4 : 3 * PHOTO_SIDE // 4] = 255
    return EditRequest(
        photo=encode_image(portrait, format="jpeg"),
        mask=encode_png(mask),
        color="#8a2f1c",
        strength=0.5,
        seed=1,
    )
