"""The whole editor on tiny networks: bytes outside the mask, batches, receipts and refusals."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from torch import Tensor, nn

from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.editing.tiny_pipeline import (
    answer_one,
    defaults,
    edit_request,
    make_mask,
    make_photo,
    make_pipeline,
    mask_png,
    pixels,
    random_networks,
)

SIZES = [(64, 64), (96, 72), (50, 50), (40, 200), (218, 178), (33, 47)]


@pytest.mark.parametrize("size", SIZES)
def test_only_pixels_inside_the_mask_change(size: tuple[int, int]) -> None:
    photo = make_photo(*size)
    result = answer_one(make_pipeline(), edit_request(photo, color="#1060f0"))
    assert isinstance(result, EditResult)
    edited, mask = pixels(result.image), make_mask(*size)
    assert edited.shape == photo.shape
    np.testing.assert_array_equal(edited[~mask], photo[~mask])
    assert (edited[mask] != photo[mask]).any(axis=1).mean() > 0.9
    assert result.metadata.mask_pixels == mask.sum()


def test_the_paint_arrives_in_the_photo() -> None:
    photo = make_photo(200, 200)
    result = answer_one(
        make_pipeline(), edit_request(photo, color="#1060f0", strength=0.0, steps=20)
    )
    inside = make_mask(200, 200)
    before, after = photo[inside].mean(axis=0), pixels(result.image)[inside].mean(axis=0)
    wanted = np.array([0x10, 0x60, 0xF0])
    assert np.linalg.norm(after - wanted) < 0.5 * np.linalg.norm(before - wanted)


class AlwaysOf(nn.Module):
    """A denoiser sure of one gray, wherever it looks."""

    def __init__(self, x_0: float) -> None:
        super().__init__()
        self.x_0, self.schedule = x_0, NoiseSchedule.linear()

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar_t = self.schedule.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        return (x_t - alpha_bar_t.sqrt() * self.x_0) / (1.0 - alpha_bar_t).sqrt()


def test_a_fill_leaves_out_what_the_model_gets_wrong_on_both_sides_of_the_border() -> None:
    photo = np.full((64, 64, 3), 200, dtype=np.uint8)
    pipeline = make_pipeline(denoiser=AlwaysOf(-0.3))
    filled = pixels(answer_one(pipeline, edit_request(photo)).image)
    assert np.abs(filled.astype(int) - photo).max() <= 1
    pasted = pixels(answer_one(pipeline, edit_request(photo, blend="feather")).image)
    assert pasted[make_mask(64, 64)].min() < 150


def test_recoloring_keeps_the_photos_own_strands() -> None:
    stripes = np.where(np.arange(200) % 2, 30, 0)[None, :, None]
    photo = np.broadcast_to(np.array([90, 60, 40]) + stripes, (200, 200, 3)).astype(np.uint8)
    inside = make_mask(200, 200)

    def stripes_left(**fields: Any) -> float:
        edited = pixels(
            answer_one(make_pipeline(), edit_request(photo, strength=0.3, **fields)).image
        )
        odd, even = inside & (np.arange(200) % 2 == 1), inside & (np.arange(200) % 2 == 0)
        return float(edited[odd].mean() - edited[even].mean())

    assert stripes_left(color="#1060f0") > 20
    # The model has 32 pixels for 200: it cannot know of stripes.
    assert abs(stripes_left(color="#1060f0", detail="model")) < 5


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"color": "#1060f0"}, "photo"),
        ({"color": "#1060f0", "strength": 0.8}, "mixed"),
        ({"color": "#1060f0", "strength": 0.8, "detail": "photo"}, "photo"),
        ({"color": "#1060f0", "detail": "model"}, "model"),
        ({}, "model"),
    ],
)
def test_the_receipt_says_where_the_detail_comes_from(fields: dict[str, Any], detail: str) -> None:
    assert (
        answer_one(make_pipeline(), edit_request(make_photo(), **fields)).metadata.detail == detail
    )


def test_a_batch_of_different_edits_equals_each_alone() -> None:
    pipeline = make_pipeline()
    requests: list[Any] = [
        edit_request(
            make_photo(*size, seed=i), seed=i, color="#30c060", strength=i / 8, sampler=sampler
        )
        for i, (size, sampler) in enumerate(zip(SIZES, ["ddpm", "ddim"] * 3, strict=True))
    ]
    requests.append(EditRequest(photo=encode_png(make_photo()), regions=("hair",), seed=8, steps=9))
    requests.append(SegmentRequest(photo=encode_png(make_photo(80, 60))))
    together = pipeline.run(requests)
    for request, answer in zip(requests, together, strict=True):
        assert answer_one(pipeline, request).image == answer.image


def test_a_batch_through_real_networks_equals_each_alone() -> None:
    pipeline = make_pipeline(**random_networks())
    samplers = ("ddpm", "ddim", "dpmpp_2m")
    requests: list[Any] = [
        edit_request(make_photo(80, 64 + 8 * i, seed=i), seed=i, sampler=sampler, resamples=1 + i)
        for i, sampler in enumerate(samplers)
    ]
    requests += [
        edit_request(make_photo(), color="#30c060", detail="mixed", variations=2, response="json"),
        SegmentRequest(photo=encode_png(make_photo(80, 60))),
    ]
    for request, answer in zip(requests, pipeline.run(requests), strict=True):
        assert answer_one(pipeline, request).image == answer.image


def test_variations_equal_the_edits_of_their_seeds() -> None:
    pipeline = make_pipeline(**random_networks())
    photo = make_photo()
    fields: dict[str, Any] = {"color": "#30c060", "strength": 0.7, "sampler": "ddpm"}
    several = answer_one(
        pipeline, edit_request(photo, seed=7, variations=3, response="json", **fields)
    )
    assert several.metadata.variations == 3
    assert several.metadata.seeds == (7, 8, 9)
    for seed, image in zip(several.metadata.seeds, several.images, strict=True):
        assert answer_one(pipeline, edit_request(photo, seed=seed, **fields)).image == image
    assert len(set(several.images)) == 3


def test_variations_are_as_large_together_as_one_photo_may_be() -> None:
    pipeline = make_pipeline(defaults=defaults(max_pixels=3 * 64 * 64))
    answers = pipeline.run(
        [edit_request(make_photo(), variations=number, response="json") for number in (3, 4)]
    )
    assert isinstance(answers[0], EditResult)
    assert isinstance(answers[1], RequestError)
    assert (answers[1].status, answers[1].field) == (413, "variations")
    assert "at most 3 variations" in str(answers[1])


def test_a_strength_map_of_255_is_none_and_of_0_keeps_the_paint() -> None:
    pipeline = make_pipeline(**random_networks())
    photo = make_photo()
    fields: dict[str, Any] = {"strength": 0.6, "detail": "model", "blend": "feather"}
    plain = answer_one(pipeline, edit_request(photo, **fields))
    full, none = (encode_png(np.full(photo.shape[:2], value, dtype=np.uint8)) for value in (255, 0))
    mapped, kept = pipeline.run(
        [
            edit_request(photo, strength_map=full, **fields),
            edit_request(photo, strength_map=none, detail="photo", strength=0.6),
        ]
    )
    assert isinstance(mapped, EditResult)
    assert isinstance(kept, EditResult)
    assert mapped.image == plain.image
    np.testing.assert_array_equal(pixels(kept.image), photo)


def test_one_bad_request_harms_no_other() -> None:
    photo = make_photo()
    answers = make_pipeline().run(
        [
            SegmentRequest(photo=b"not an image"),
            edit_request(photo),
            EditRequest(photo=encode_png(photo), regions=("hat",)),
            edit_request(photo, timestep=501),
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

    request = edit_request(make_photo())
    answers = make_pipeline(denoiser=Broken()).run([request, SegmentRequest(photo=request.photo)])
    assert isinstance(answers[0], RequestError)
    assert answers[0].status == 500
    assert "secret" not in str(answers[0].to_problem())
    assert isinstance(answers[1], SegmentResult)


def test_the_receipt_makes_the_same_edit_again() -> None:
    photo = make_photo(96, 72)
    mask = mask_png(make_mask(96, 72))
    first = answer_one(make_pipeline(), EditRequest(photo=encode_png(photo), mask=mask))
    receipt = first.metadata
    assert receipt.bundle_digest == "abc123"
    assert (receipt.width, receipt.height) == (72, 96)
    assert (receipt.sampler, receipt.steps) == ("ddim", 24)
    assert receipt.strength == 1.0
    assert receipt.crop == (0, 12, 72, 84)
    assert set(receipt.timings_ms) == {
        "decode", "segment", "prepare", "diffuse", "upscale", "encode", "networks",
    }  # fmt: skip
    again = EditRequest(
        photo=encode_png(photo),
        mask=mask,
        seed=receipt.seed,
        sampler=receipt.sampler,  # type: ignore[arg-type]
        steps=receipt.steps,
        timestep=receipt.timestep,
    )
    assert answer_one(make_pipeline(), again).image == first.image


def test_other_seeds_give_other_edits() -> None:
    photo = make_photo()
    first, second = make_pipeline().run([edit_request(photo, seed=1), edit_request(photo, seed=2)])
    assert isinstance(first, EditResult)
    assert isinstance(second, EditResult)
    assert first.image != second.image


def test_padded_squares_are_reported_beyond_the_photo() -> None:
    photo = make_photo(40, 200)
    wide = np.zeros((40, 200), dtype=np.uint8)
    wide[10:20, 5:195] = 255
    result = answer_one(make_pipeline(), edit_request(photo, mask=encode_png(wide)))
    assert result.metadata.crop == (0, -80, 200, 120)


def test_alpha_and_color_profile_are_kept() -> None:
    photo = make_photo(48, 48)
    alpha = np.random.default_rng(3).integers(0, 256, (48, 48), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode_png(photo, alpha=alpha, icc_profile=profile)
    request = edit_request(photo).model_copy(update={"photo": data})
    edited, enlarged = make_pipeline().run([request, UpscaleRequest(photo=data)])
    assert isinstance(edited, EditResult)
    assert isinstance(enlarged, UpscaleResult)
    for answer in (edited, enlarged):
        with Image.open(io.BytesIO(answer.image)) as image:
            assert image.mode == "RGBA"
            assert image.info["icc_profile"] == profile
    np.testing.assert_array_equal(pixels(edited.image)[..., 3], alpha)


def test_segmenting_gives_a_label_map_and_its_table() -> None:
    result = answer_one(make_pipeline(), SegmentRequest(photo=encode_png(make_photo(96, 72))))
    labels = pixels(result.image)
    assert labels.shape == (96, 72)
    table = {row.name: row for row in result.metadata.regions}
    assert table["hair"].pixels == (labels == 1).sum()
    assert table["hair"].fraction == pytest.approx(0.5, abs=0.05)
    assert table["hat"].box is None


def test_a_flip_at_test_time_makes_labels_symmetric() -> None:
    class PrefersLeft(nn.Module):
        """Skin on the left, on the right a little less background."""

        def forward(self, x: Tensor) -> Tensor:
            logits = x.new_zeros(x.shape[0], 11, *x.shape[2:])
            logits[:, 10, :, : x.shape[3] // 2] = 3.0
            logits[:, 0] = 1.0
            return logits

    request = SegmentRequest(photo=encode_png(np.full((32, 32, 3), 90, np.uint8)))
    skin = []
    for flip in (False, True):
        pipeline = make_pipeline(segmenter=PrefersLeft(), defaults=defaults(test_time_flip=flip))
        result = answer_one(pipeline, request)
        assert isinstance(result, SegmentResult)
        skin.append(float((pixels(result.image) == 10).mean()))
    assert skin == [pytest.approx(0.5, abs=0.1), 1.0]


def test_upscaling_enlarges_four_times() -> None:
    photo = make_photo(30, 44)
    result = answer_one(make_pipeline(), UpscaleRequest(photo=encode_png(photo)))
    enlarged = pixels(result.image)
    assert enlarged.shape == (120, 176, 3)
    assert (result.metadata.width, result.metadata.height, result.metadata.scale) == (176, 120, 4)
    back = np.asarray(Image.fromarray(enlarged).resize((44, 30), Image.Resampling.BOX))
    assert np.abs(back.astype(int) - photo).mean() < 8


def test_photos_too_large_to_upscale_are_refused() -> None:
    pipeline = make_pipeline(defaults=defaults(max_pixels=64 * 64))
    (answer,) = pipeline.run([UpscaleRequest(photo=encode_png(make_photo(30, 30)))])
    assert isinstance(answer, RequestError)
    assert answer.status == 413
    assert "256 pixels" in answer.remedy


def test_no_requests_no_answers() -> None:
    assert make_pipeline().run([]) == []


def test_a_feather_beyond_the_limit_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="0 to 64"):
        make_pipeline(defaults=defaults(feather_px=65))


@pytest.mark.parametrize(
    ("upload", "asked", "answered", "exact"),
    [
        ("PNG", None, "PNG", True),
        ("WEBP", None, "WEBP", True),
        ("JPEG", None, "PNG", True),
        ("JPEG", "jpeg", "JPEG", False),
        ("PNG", "webp", "WEBP", True),
        ("WEBP", "png", "PNG", True),
    ],
)
def test_file_types(upload: str, asked: Any, answered: str, exact: bool) -> None:
    buffer = io.BytesIO()
    Image.fromarray(make_photo()).save(buffer, upload)
    request = edit_request(make_photo(), format=asked)
    request = request.model_copy(update={"photo": buffer.getvalue()})
    result = answer_one(make_pipeline(), request)
    with Image.open(io.BytesIO(result.image)) as image:
        assert image.format == answered
        assert not image.getexif()
    assert (result.metadata.format, result.metadata.exact) == (answered.lower(), exact)
    kept = ~make_mask(64, 64)
    before, after = (decode_photo(data).rgb[kept] for data in (request.photo, result.image))
    assert (before == after).all() == exact


def test_a_jpeg_of_a_transparent_photo_is_refused() -> None:
    photo = make_photo()
    alpha = np.full(photo.shape[:2], 7, dtype=np.uint8)
    request = edit_request(photo, format="jpeg")
    request = request.model_copy(update={"photo": encode_png(photo, alpha=alpha)})
    (answer,) = make_pipeline().run([request])
    assert isinstance(answer, RequestError)
    assert (answer.status, answer.field) == (422, "format")


@pytest.mark.parametrize("blend", [None, "gradient", "feather"])
def test_a_mask_of_the_whole_photo_turns_a_sketch_into_a_photo(blend: Any) -> None:
    photo = make_photo(60, 90)
    whole = mask_png(np.ones((60, 90), dtype=bool))
    result = answer_one(make_pipeline(), edit_request(photo, mask=whole, blend=blend, strength=0.5))
    assert result.metadata.mask_pixels == 60 * 90
    assert result.metadata.blend == "feather"
    assert pixels(result.image).shape == photo.shape
    # The photo's border is no border of the mask: it is redrawn like the rest.
    assert (pixels(result.image) != photo).any(axis=2).mean() > 0.9


class PortraitReader(nn.Module):
    """Reads region ids, times 20, off the photo's red."""

    def forward(self, x: Tensor) -> Tensor:
        ids = ((x[:, 0] + 1.0) * 127.5 / 20.0).round().long().clamp(0, 10)
        return 9.0 * nn.functional.one_hot(ids, 11).permute(0, 3, 1, 2).float()


def test_the_square_is_that_of_the_face_under_the_mask() -> None:
    photo = np.zeros((400, 600, 3), dtype=np.uint8)
    for left in (30, 380):
        photo[150:342, left : left + 192, 0] = 20 * generate_portrait(1, 16, resolution=192).labels
    mask = np.zeros((400, 600), dtype=bool)
    mask[250:270, 460:480] = True
    pipeline = make_pipeline(segmenter=PortraitReader(), segmenter_resolution=128)
    edits = [
        answer_one(pipeline, edit_request(photo, mask=mask_png(mask))).metadata,
        answer_one(pipeline, edit_request(make_photo(400, 600))).metadata,
        answer_one(
            pipeline, edit_request(photo, mask=mask_png(np.ones((400, 600), dtype=bool)))
        ).metadata,
    ]
    face = edits[0].face
    assert face is not None
    assert 380 < face[0] < face[2] < 572
    assert edits[0].crop is not None
    left, top, right, bottom = edits[0].crop
    assert 130 < right - left < 260
    assert left < 460 < 480 < right
    assert top < 250 < 270 < bottom
    assert edits[1].face is None
    # A mask of the whole photo leaves no choice.
    assert edits[2].crop == (0, -100, 600, 500)


def test_small_faces_are_segmented_and_edited_as_finely_as_large_ones() -> None:
    labels = np.zeros((420, 600), dtype=np.uint8)
    labels[280:400, 420:540] = generate_portrait(1, 16, resolution=120).labels
    photo = np.zeros((420, 600, 3), dtype=np.uint8)
    photo[..., 0] = 20 * labels
    pipeline = make_pipeline(segmenter=PortraitReader(), segmenter_resolution=128)
    hair = labels == 1
    seen = answer_one(pipeline, SegmentRequest(photo=encode_png(photo)))
    edit = answer_one(
        pipeline,
        EditRequest(photo=encode_png(photo), regions=("hair",), color="#1060f0", seed=1),
    )
    for found in (pixels(seen.image) == 1, (pixels(edit.image) != photo).any(axis=2)):
        assert (found & hair).sum() / (found | hair).sum() > 0.85
    left, top, right, bottom = edit.metadata.crop
    assert 90 < right - left == bottom - top < 160
    assert edit.metadata.face is not None
