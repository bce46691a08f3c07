"""Placements of photo and label map, against Pillow and NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neural_photo_editor.data.placement import Placement, RandomPlacement, place
from neural_photo_editor.data.synthetic_portraits import generate_portrait

STILL = Placement(angle=0.0, factor=1.0, right=0.0, down=0.0)


@pytest.fixture(scope="module")
def portrait() -> tuple[torch.Tensor, torch.Tensor]:
    """Photo, uint8 (3, 64, 64), and labels, uint8 (64, 64)."""
    drawn = generate_portrait(4, 1, resolution=64)
    photo = torch.from_numpy(drawn.photo).permute(2, 0, 1).contiguous()
    return photo, torch.from_numpy(drawn.labels)


Portrait = tuple[torch.Tensor, torch.Tensor]


def test_nothing_moves_where_nothing_is_asked_for(portrait: Portrait) -> None:
    photo, labels = place(*portrait, STILL)
    assert torch.equal(photo, portrait[0])
    assert torch.equal(labels, portrait[1])


@pytest.mark.parametrize(("turns", "degrees"), [(1, 90), (2, 180), (-1, -90)])
def test_right_angles_turn_counterclockwise(portrait: Portrait, turns: int, degrees: int) -> None:
    photo, labels = place(*portrait, STILL._replace(angle=math.radians(degrees)))
    assert torch.equal(labels, portrait[1].rot90(turns, (0, 1)))
    assert torch.equal(photo, portrait[0].rot90(turns, (1, 2)))


def test_whole_pixels_shift_and_the_border_mirrors(portrait: Portrait) -> None:
    photo, labels = place(*portrait, STILL._replace(right=5 / 64, down=-3 / 64))
    for before, after in ((portrait[0], photo), (portrait[1][None], labels[None])):
        padded = np.pad(before.numpy(), ((0, 0), (5, 5), (5, 5)), mode="symmetric")
        np.testing.assert_array_equal(after.numpy(), padded[:, 8:72, :64])


def test_any_placement_is_that_of_pillow(portrait: Portrait) -> None:
    angle, factor, right, down = math.radians(20), 1.15, 0.03, -0.04
    photo, labels = place(*portrait, Placement(angle, factor, right, down))
    pad, side, half = 32, 64, 32.0
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    # Pillow's map is from target to source, in pixels, about the corner.
    x, y = half + 64 * right, half + 64 * down
    affine = (cosine, -sine, half + pad - cosine * x + sine * y,
              sine, cosine, half + pad - sine * x - cosine * y)  # fmt: skip

    def by_pillow(picture: torch.Tensor, resample: Image.Resampling) -> np.ndarray:
        padded = np.pad(picture.numpy(), pad, mode="symmetric")
        image = Image.fromarray(padded).transform(
            (side, side), Image.Transform.AFFINE, affine, resample
        )
        return np.asarray(image)

    for plane, before in zip(photo, portrait[0], strict=True):
        expected = by_pillow(before, Image.Resampling.BILINEAR).astype(int)
        # Pillow rounds positions.
        assert np.abs(plane.numpy().astype(int) - expected).mean() < 0.5
    agree = labels.numpy() == by_pillow(portrait[1], Image.Resampling.NEAREST)
    assert agree.mean() > 0.995


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rotation=st.floats(0, 180),
    scale=st.floats(0, 1),
    shift=st.floats(0, 0.5),
    ids=st.sets(st.integers(0, 10), min_size=1, max_size=4),
    side=st.integers(2, 33),
)
def test_no_id_appears_that_was_not_there(
    seed: int, rotation: float, scale: float, shift: float, ids: set[int], side: int
) -> None:
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(generator.choice(np.array(sorted(ids), np.uint8), (1, side, side)))
    images = torch.from_numpy(generator.integers(0, 256, (1, 3, side, side), dtype=np.uint8))
    placement = RandomPlacement(rotation=rotation, scale=scale, shift=shift)
    photos, label_maps = placement.apply(images, labels, seed=seed, epoch=0, sample_ids=[seed])
    assert set(label_maps.unique().tolist()) <= ids
    assert photos.dtype == label_maps.dtype == torch.uint8
    assert photos.shape == images.shape
    assert images.min() <= photos.min()
    assert photos.max() <= images.max()


def test_photo_and_labels_stay_together() -> None:
    # A photo that is a picture of its own labels must remain one, but for its blurred borders.
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = (1 + (rows > 20).int() + 2 * (columns > 40).int()).to(torch.uint8)[None]
    images = (20 * labels)[:, None].expand(-1, 3, -1, -1).contiguous()
    placement = RandomPlacement(rotation=30, scale=0.3, shift=0.1)
    for sample_id in range(8):
        photos, label_maps = placement.apply(
            images, labels, seed=1, epoch=2, sample_ids=[sample_id]
        )
        difference = (photos[0].int() - 20 * label_maps.int()).abs()
        assert (difference <= 1).float().mean() > 0.93
        assert not torch.equal(label_maps, labels)


def test_it_depends_on_seed_epoch_and_sample_alone(portrait: Portrait) -> None:
    images, labels = (part.expand(3, *part.shape).contiguous() for part in portrait)
    placement = RandomPlacement(rotation=20, scale=0.2, shift=0.1)
    together = placement.apply(images, labels, seed=3, epoch=1, sample_ids=(5, 9, 7))
    for row, sample_id in enumerate((5, 9, 7)):
        alone = placement.apply(images[:1], labels[:1], seed=3, epoch=1, sample_ids=(sample_id,))
        assert torch.equal(alone[0][0], together[0][row])
        assert torch.equal(alone[1][0], together[1][row])
    for other in ({"seed": 4}, {"epoch": 2}, {"sample_ids": (6, 10, 8)}):
        arguments = {"seed": 3, "epoch": 1, "sample_ids": (5, 9, 7)} | other
        assert not torch.equal(placement.apply(images, labels, **arguments)[1], together[1])  # type: ignore[arg-type]


def test_draws_fill_their_range_and_no_more() -> None:
    placement = RandomPlacement(rotation=30, scale=0.25, shift=0.1)
    drawn = np.array([placement._draw(0, 0, sample_id) for sample_id in range(500)])
    angle, factor, right, down = drawn.T
    assert np.abs(np.degrees(angle)).max() == pytest.approx(30, abs=0.5)
    assert (factor.min(), factor.max()) == (
        pytest.approx(0.8, abs=0.01),
        pytest.approx(1.25, abs=0.01),
    )
    assert np.abs(np.log(factor).mean()) < 0.02
    for shift in (right, down):
        assert np.abs(shift).max() == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rotation", 181), ("scale", -0.1), ("shift", 0.6), ("scale", math.nan)],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"placement.{name} is {value}"):
        RandomPlacement(**{name: value})
