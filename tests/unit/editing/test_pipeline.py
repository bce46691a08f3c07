"""The whole editor on tiny networks: bytes outside the mask, batches, receipts and refusals."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor, nn
from torch.nn import functional as F

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

SIZES = [(64, 64), (96, 72), (50, 50), (40, 200), (218, 178), (33, 47)]


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


def _defaults(**changes: Any) -> ServingDefaults:
    values = {
        "sampler": "ddim",
        "steps": 5,
        "strength": 0.4,
        "feather_px": 2,
        "max_pixels": 4096 * 4096,
        "max_bytes": 20 * 2**20,
    }
    return ServingDefaults(**{**values, **changes})


def _pipeline(**changes: Any) -> EditPipeline:
    arguments: dict[str, Any] = {
        "denoiser": TowardsPaint(),
        "segmenter": ColorSegmenter(),
        "upscaler": Bicubic(),
        "schedule": NoiseSchedule.linear(),
        "defaults": _defaults(),
        "bundle_digest": "abc123",
        "resolution": 32,
        "segmenter_resolution": 32,
    }
    return EditPipeline(**{**arguments, **changes})


def _photo(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Red above, green below right, blue below left, with noise."""
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[..., 2] = 200
    photo[: height // 2] = (200, 20, 20)
    photo[height // 2 :, width // 2 :] = (20, 200, 20)
    noise = np.random.default_rng(seed).integers(0, 40, photo.shape)
    return (photo + noise).astype(np.uint8)


def _mask(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = True
    return mask


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _edit_request(photo: np.ndarray, **fields: Any) -> EditRequest:
    fields = {"mask": encode_png(_mask(*photo.shape[:2]).astype(np.uint8) * 255), **fields}
    return EditRequest(photo=encode_png(photo), seed=fields.pop("seed", 1), **fields)


def _one(pipeline: EditPipeline, request: Any) -> Any:
    (answer,) = pipeline.run([request])
    assert not isinstance(answer, RequestError), answer
    return answer


@pytest.mark.parametrize("size", SIZES)
def test_only_pixels_inside_the_mask_change(size: tuple[int, int]) -> None:
    photo = _photo(*size)
    result = _one(_pipeline(), _edit_request(photo, color="#1060f0"))
    assert isinstance(result, EditResult)
    edited, mask = _decode(result.image), _mask(*size)
    assert edited.shape == photo.shape
    np.testing.assert_array_equal(edited[~mask], photo[~mask])
    assert (edited[mask] != photo[mask]).any(axis=1).mean() > 0.9
    assert result.metadata.mask_pixels == mask.sum()


def test_the_paint_arrives_in_the_photo() -> None:
    photo = _photo(200, 200)
    result = _one(_pipeline(), _edit_request(photo, color="#1060f0", strength=0.0, steps=20))
    inside = _mask(200, 200)
    before, after = photo[inside].mean(axis=0), _decode(result.image)[inside].mean(axis=0)
    wanted = np.array([0x10, 0x60, 0xF0])
    assert np.linalg.norm(after - wanted) < 0.5 * np.linalg.norm(before - wanted)


def test_recoloring_keeps_the_photos_own_strands() -> None:
    stripes = np.where(np.arange(200) % 2, 30, 0)[None, :, None]
    photo = np.broadcast_to(np.array([90, 60, 40]) + stripes, (200, 200, 3)).astype(np.uint8)
    inside = _mask(200, 200)

    def stripes_left(**fields: Any) -> float:
        edited = _decode(_one(_pipeline(), _edit_request(photo, strength=0.3, **fields)).image)
        odd, even = inside & (np.arange(200) % 2 == 1), inside & (np.arange(200) % 2 == 0)
        return float(edited[odd].mean() - edited[even].mean())

    assert stripes_left(color="#1060f0") > 20
    # The model has 32 pixels for 200: it cannot know of stripes.
    assert abs(stripes_left(color="#1060f0", detail="model")) < 5


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"color": "#1060f0"}, "photo"),
        ({"color": "#1060f0", "strength": 0.8}, "model"),
        ({"color": "#1060f0", "strength": 0.8, "detail": "photo"}, "photo"),
        ({"color": "#1060f0", "detail": "model"}, "model"),
        ({}, "model"),
    ],
)
def test_the_receipt_says_where_the_detail_comes_from(fields: dict[str, Any], detail: str) -> None:
    assert _one(_pipeline(), _edit_request(_photo(), **fields)).metadata.detail == detail


def test_a_batch_of_different_edits_equals_each_alone() -> None:
    pipeline = _pipeline()
    requests: list[Any] = [
        _edit_request(
            _photo(*size, seed=i), seed=i, color="#30c060", strength=i / 8, sampler=sampler
        )
        for i, (size, sampler) in enumerate(zip(SIZES, ["ddpm", "ddim"] * 3, strict=True))
    ]
    requests.append(EditRequest(photo=encode_png(_photo()), regions=("hair",), seed=8, steps=9))
    requests.append(SegmentRequest(photo=encode_png(_photo(80, 60))))
    together = pipeline.run(requests)
    for request, answer in zip(requests, together, strict=True):
        assert _one(pipeline, request).image == answer.image


def test_a_batch_through_real_networks_equals_each_alone() -> None:
    torch.manual_seed(0)
    pipeline = _pipeline(
        denoiser=DenoisingUNet(
            widths=(32, 32), blocks_per_level=1, attention_levels=(1,), head_dim=32
        ),
        segmenter=SegmentationUNet(widths=(8, 16), blocks_per_level=1),
        upscaler=SRResNet(width=8, num_blocks=1),
    )
    requests = [_edit_request(_photo(80, 80, seed=i), seed=i) for i in range(3)]
    for request, answer in zip(requests, pipeline.run(requests), strict=True):
        difference = _decode(_one(pipeline, request).image).astype(int) - _decode(answer.image)
        assert np.abs(difference).max() <= 1


def test_edits_share_the_network_calls() -> None:
    denoiser = TowardsPaint()
    pipeline = _pipeline(denoiser=denoiser)
    photo = _photo()
    paint: dict[str, Any] = {"color": "#30c060"}
    pipeline.run(
        [_edit_request(photo, steps=3, **paint), _edit_request(photo, steps=5, seed=2, **paint)]
    )
    assert denoiser.batch_sizes == [2, 2, 2, 1, 1]


def test_one_bad_request_harms_no_other() -> None:
    photo = _photo()
    answers = _pipeline().run(
        [
            SegmentRequest(photo=b"not an image"),
            _edit_request(photo),
            EditRequest(photo=encode_png(photo), regions=("hat",)),
            _edit_request(photo, timestep=501),
            UpscaleRequest(photo=encode_png(photo)),
        ]
    )
    assert [type(a).__name__ for a in answers] == [
        "RequestError", "EditResult", "RequestError", "RequestError", "UpscaleResult",
    ]  # fmt: skip
    errors = [a for a in answers if isinstance(a, RequestError)]
    assert [e.status for e in errors] == [415, 422, 422]
    assert [e.field for e in errors] == ["photo", "regions", "timestep"]
    assert "hair" in errors[1].remedy


def test_unexpected_failures_answer_500_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            raise RuntimeError("secret path /srv/models")

    request = _edit_request(_photo())
    answers = _pipeline(denoiser=Broken()).run([request, SegmentRequest(photo=request.photo)])
    assert isinstance(answers[0], RequestError)
    assert answers[0].status == 500
    assert "secret" not in str(answers[0].to_problem())
    assert isinstance(answers[1], SegmentResult)


def test_the_receipt_makes_the_same_edit_again() -> None:
    photo = _photo(96, 72)
    mask = encode_png(_mask(96, 72).astype(np.uint8) * 255)
    first = _one(_pipeline(), EditRequest(photo=encode_png(photo), mask=mask))
    receipt = first.metadata
    assert receipt.bundle_digest == "abc123"
    assert (receipt.width, receipt.height) == (72, 96)
    assert (receipt.sampler, receipt.steps) == ("ddim", 5)
    assert receipt.strength == 1.0
    assert receipt.crop == (0, 12, 72, 84)
    assert set(receipt.timings_ms) == {"decode", "prepare", "diffuse", "upscale", "encode"}
    again = EditRequest(
        photo=encode_png(photo),
        mask=mask,
        seed=receipt.seed,
        sampler=receipt.sampler,  # type: ignore[arg-type]
        steps=receipt.steps,
        timestep=receipt.timestep,
    )
    assert _one(_pipeline(), again).image == first.image


def test_other_seeds_give_other_edits() -> None:
    photo = _photo()
    first, second = _pipeline().run([_edit_request(photo, seed=1), _edit_request(photo, seed=2)])
    assert isinstance(first, EditResult)
    assert isinstance(second, EditResult)
    assert first.image != second.image


def test_padded_squares_are_reported_beyond_the_photo() -> None:
    photo = _photo(40, 200)
    wide = np.zeros((40, 200), dtype=np.uint8)
    wide[10:20, 5:195] = 255
    result = _one(_pipeline(), _edit_request(photo, mask=encode_png(wide)))
    assert result.metadata.crop == (0, -80, 200, 120)


def test_alpha_and_color_profile_are_kept() -> None:
    photo = _photo(48, 48)
    alpha = np.random.default_rng(3).integers(0, 256, (48, 48), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode_png(photo, alpha=alpha, icc_profile=profile)
    request = _edit_request(photo).model_copy(update={"photo": data})
    edited, enlarged = _pipeline().run([request, UpscaleRequest(photo=data)])
    assert isinstance(edited, EditResult)
    assert isinstance(enlarged, UpscaleResult)
    for answer in (edited, enlarged):
        with Image.open(io.BytesIO(answer.image)) as image:
            assert image.mode == "RGBA"
            assert image.info["icc_profile"] == profile
    np.testing.assert_array_equal(_decode(edited.image)[..., 3], alpha)


def test_segmenting_gives_a_label_map_and_its_table() -> None:
    result = _one(_pipeline(), SegmentRequest(photo=encode_png(_photo(96, 72))))
    labels = _decode(result.image)
    assert labels.shape == (96, 72)
    table = {row.name: row for row in result.metadata.regions}
    assert table["hair"].pixels == (labels == 1).sum()
    assert table["hair"].fraction == pytest.approx(0.5, abs=0.05)
    assert table["hat"].box is None


def test_upscaling_enlarges_four_times() -> None:
    photo = _photo(30, 44)
    result = _one(_pipeline(), UpscaleRequest(photo=encode_png(photo)))
    enlarged = _decode(result.image)
    assert enlarged.shape == (120, 176, 3)
    assert (result.metadata.width, result.metadata.height, result.metadata.scale) == (176, 120, 4)
    back = np.asarray(Image.fromarray(enlarged).resize((44, 30), Image.Resampling.BOX))
    assert np.abs(back.astype(int) - photo).mean() < 8


def test_photos_too_large_to_upscale_are_refused() -> None:
    pipeline = _pipeline(defaults=_defaults(max_pixels=64 * 64))
    (answer,) = pipeline.run([UpscaleRequest(photo=encode_png(_photo(30, 30)))])
    assert isinstance(answer, RequestError)
    assert answer.status == 413
    assert "256 pixels" in answer.remedy


def test_no_requests_no_answers() -> None:
    assert _pipeline().run([]) == []


def test_a_feather_beyond_the_limit_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="0 to 64"):
        _pipeline(defaults=_defaults(feather_px=65))
