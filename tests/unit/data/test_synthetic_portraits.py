"""The drawn portraits: the same scene at every size, exact labels, all regions, variety."""

from functools import cache

import numpy as np
import pytest

from neural_photo_editor.common.regions import NUM_REGIONS, REGION_NAMES, region_id
from neural_photo_editor.data.synthetic.casting import draw_scene
from neural_photo_editor.data.synthetic.features import MOUTH_LINE
from neural_photo_editor.data.synthetic.raster import Canvas, Noise, Pose, ellipse, smooth_min
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait

NUM_PORTRAITS = 200


@cache
def _series() -> tuple[Portrait, ...]:
    return tuple(generate_portrait(11, i, resolution=32) for i in range(NUM_PORTRAITS))


@pytest.mark.parametrize("resolution", [32, 33, 100, 128])
def test_shapes_types_and_values(resolution: int) -> None:
    portrait = generate_portrait(0, 3, resolution=resolution)
    assert portrait.photo.shape == (resolution, resolution, 3)
    assert portrait.labels.shape == (resolution, resolution)
    assert portrait.photo.dtype == portrait.labels.dtype == np.uint8
    assert portrait.photo.flags["C_CONTIGUOUS"]
    assert portrait.labels.max() < NUM_REGIONS
    assert int(portrait.photo.max()) - int(portrait.photo.min()) > 100


@pytest.mark.parametrize("resolution", [0, 31, 513])
def test_refuses_sizes_it_cannot_paint(resolution: int) -> None:
    with pytest.raises(ValueError, match=r"choose 32\.\.512"):
        generate_portrait(0, 0, resolution=resolution)


def test_depends_on_seed_and_index_alone() -> None:
    first = generate_portrait(5, 2, resolution=64)
    generate_portrait(5, 3, resolution=40)
    again = generate_portrait(5, 2, resolution=64)
    np.testing.assert_array_equal(first.photo, again.photo)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (generate_portrait(6, 2, resolution=64).photo != first.photo).mean() > 0.5
    assert (generate_portrait(2, 5, resolution=64).photo != first.photo).mean() > 0.5


@pytest.mark.parametrize("index", range(8))
def test_same_scene_at_every_resolution(index: int) -> None:
    small, large = (generate_portrait(1, index, resolution=size) for size in (64, 256))
    # axes: row, row inside the cell, column, column inside the cell
    cells = large.labels.reshape(64, 4, 64, 4).transpose(0, 2, 1, 3).reshape(64, 64, 16)
    counts = np.stack([(cells == region).sum(axis=2) for region in range(NUM_REGIONS)])
    assert (counts.argmax(axis=0) == small.labels).mean() > 0.97
    average = large.photo.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(average - small.photo).mean() < 4.0


def test_every_region_is_common_and_hats_are_not_everywhere() -> None:
    frequency = np.zeros(NUM_REGIONS)
    for portrait in _series():
        frequency[np.unique(portrait.labels)] += 1.0 / NUM_PORTRAITS
    rare = {name: f for name, f in zip(REGION_NAMES, frequency, strict=True) if f < 0.05}
    assert not rare
    assert 0.1 < frequency[region_id("hat")] < 0.35
    assert 0.15 < frequency[region_id("mouth")] < 0.5
    assert frequency[region_id("ear")] > 0.5
    for name in ("background", "skin", "nose", "eye", "lip", "neck"):
        assert frequency[region_id(name)] > 0.95, name


def test_photos_vary() -> None:
    photos = np.stack([portrait.photo for portrait in _series()]).astype(np.float32)
    assert len({portrait.photo.tobytes() for portrait in _series()}) == NUM_PORTRAITS
    # Every pixel changes from portrait to portrait, and no two look nearly alike.
    assert photos.std(axis=0).min() > 15.0
    flat = photos[:60].reshape(60, -1)
    distance = np.abs(flat[:, None] - flat[None]).mean(axis=2) + 1e3 * np.eye(60)
    assert distance.min() > 8.0


def test_colors_follow_the_labels() -> None:
    """Skin is redder than blue, in any light."""
    for index, portrait in enumerate(_series()[:40]):
        skin = portrait.photo[portrait.labels == region_id("skin")].astype(np.float32)
        assert skin[:, 0].mean() > skin[:, 2].mean() + 5.0, index


def test_the_mouth_lies_where_the_scene_says() -> None:
    for index in range(12):
        pose = draw_scene(11, index).pose
        lips = np.isin(_series()[index].labels, (region_id("lip"), region_id("mouth")))
        rows, columns = np.nonzero(lips)
        x, y = (columns.mean() + 0.5) / 16 - 1.0, (rows.mean() + 0.5) / 16 - 1.0
        expected_x = pose.shift_x - np.sin(pose.roll) * MOUTH_LINE * pose.scale
        expected_y = pose.shift_y + np.cos(pose.roll) * MOUTH_LINE * pose.scale
        assert abs(y - expected_y) < 0.12
        assert abs(x - expected_x) < 0.25


def _canvas(resolution: int) -> Canvas:
    pose = Pose(shift_x=0.1, shift_y=-0.05, scale=0.6, roll=0.2, yaw=0.0, pitch=0.0)
    return Canvas.blank(resolution, pose=pose)


def test_edges_are_anti_aliased_and_areas_exact() -> None:
    canvas = _canvas(64)
    coverage = canvas.coverage(ellipse(canvas.x, canvas.y, 0.9, 0.5))
    canvas.paint(coverage, (1.0, 0.5, 0.25), label=4)
    between = (canvas.photo[0] > 0.02) & (canvas.photo[0] < 0.98)
    assert 0.3 < between.sum() / (2.0 * np.pi * 0.7 / canvas.pixel) < 2.0
    area = float(coverage.sum()) * canvas.pixel**2
    assert area == pytest.approx(np.pi * 0.9 * 0.5, rel=0.01)
    np.testing.assert_array_equal(canvas.labels == 4, coverage > 0.5)


def test_a_window_is_the_box_it_was_asked_for() -> None:
    canvas = _canvas(80)
    part = canvas.window(-0.3, 0.5, 0.1, 0.6)
    assert np.shares_memory(part.photo, canvas.photo)
    assert part.labels.size < canvas.labels.size
    part.labels[:] = 1
    inside = (np.abs(canvas.x - 0.1) < 0.4) & (np.abs(canvas.y - 0.35) < 0.25)
    assert canvas.labels[inside].all()
    assert canvas.window(5.0, 6.0, 5.0, 6.0).labels.size >= 1


def test_noise_is_smooth_bounded_and_periodic() -> None:
    noise = Noise(np.random.default_rng(0))
    x = np.linspace(0.0, 20.0, 4001, dtype=np.float32)
    values = noise(x, 0.37 * x)
    assert np.abs(values).max() <= 1.0
    assert values.std() > 0.2
    assert np.abs(np.diff(values)).max() < 0.03
    np.testing.assert_allclose(noise(x + 64.0, 0.37 * x - 64.0), values, atol=1e-3)


def test_smooth_union_equals_the_union_away_from_the_seam() -> None:
    first, second = np.array([0.5, -0.2, 0.01]), np.array([-0.1, 0.4, 0.01])
    joined = smooth_min(first, second, 0.1)
    np.testing.assert_allclose(joined[:2], [-0.1, -0.2])
    assert joined[2] < 0.0
