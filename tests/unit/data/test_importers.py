"""One suite that every source of samples passes."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.common.regions import REGION_MAP
from neural_photo_editor.data.celeba import CelebA
from neural_photo_editor.data.celebamask_hq import CelebAMaskHQ
from neural_photo_editor.data.ffhq import FFHQ
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import SampleSource
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from tests.unit.data import fake_datasets


def _image_folder(folder: Path, *, labels: bool) -> ImageFolder:
    fake_datasets.write_image_folder(folder, count=4, labels=labels)
    label_folder = folder / "labels" if labels else None
    return ImageFolder(folder=folder / "photos", labels=label_folder, resolution=32)


def _celeba(folder: Path) -> CelebA:
    fake_datasets.write_celeba(folder, [1, *fake_datasets.BOUNDARIES])
    return CelebA(folder=folder, resolution=32)


def _celebamask_hq(folder: Path) -> CelebAMaskHQ:
    fake_datasets.write_celebamask_hq(folder, {0: 119614, 1: 162771, 2: 182638, 2001: 8})
    return CelebAMaskHQ(folder=folder, resolution=32)


def _ffhq(folder: Path) -> FFHQ:
    fake_datasets.write_ffhq(folder, [0, 1, 1000, 59999, 60000, 69999])
    return FFHQ(folder=folder, resolution=32)


SOURCES: dict[str, Callable[[Path], SampleSource]] = {
    "folder": lambda folder: _image_folder(folder, labels=False),
    "labeled folder": lambda folder: _image_folder(folder, labels=True),
    "CelebA": _celeba,
    "CelebAMask-HQ": _celebamask_hq,
    "FFHQ": _ffhq,
    "synthetic": lambda _: SyntheticPortraits(seed=3, count=4, resolution=32),
}
LABELED = {"labeled folder", "CelebAMask-HQ", "synthetic"}


@pytest.fixture(params=SOURCES, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def source(kind: str, tmp_path_factory: pytest.TempPathFactory) -> SampleSource:
    return SOURCES[kind](tmp_path_factory.mktemp("source"))


class TestEverySource:
    def test_samples_have_the_promised_shapes_and_say_where_they_come_from(
        self, source: SampleSource, kind: str
    ) -> None:
        assert len(source) >= 4
        assert source.resolution == 32
        assert "32 x 32 pixels" in source.crop
        for index in range(len(source)):
            sample = source.load(index)
            assert sample.photo.shape == (32, 32, 3)
            assert sample.photo.dtype == np.uint8
            assert sample.photo.std() > 5
            assert (sample.labels is not None) == (kind in LABELED)
            if sample.labels is not None:
                assert sample.labels.shape == (32, 32)
                assert sample.labels.dtype == np.uint8
                assert {REGION_MAP["skin"], REGION_MAP["hair"]} <= set(np.unique(sample.labels))
            assert sample.metadata.source
            assert sample.metadata.license
            assert sample.metadata.attribution
            assert sample.metadata.note == ""

    def test_keys_and_names_are_unique_and_fit_for_shards(self, source: SampleSource) -> None:
        keys = [source.key(index) for index in range(len(source))]
        assert len(set(keys)) == len(keys)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) for key in keys)
        assert len({source.name(index) for index in range(len(source))}) == len(keys)
        assert [source.load(index).key for index in range(len(source))] == keys

    def test_loading_is_a_pure_function_also_in_another_process(self, source: SampleSource) -> None:
        copy = pickle.loads(pickle.dumps(source))
        for index in reversed(range(len(source))):
            first, again = source.load(index), copy.load(index)
            assert first.key == again.key
            assert first.metadata == again.metadata
            np.testing.assert_array_equal(first.photo, again.photo)
            np.testing.assert_array_equal(first.labels, again.labels)

    def test_splits_are_a_splits_name_or_left_to_the_writer(
        self, source: SampleSource, kind: str
    ) -> None:
        splits = {source.split(index) for index in range(len(source))}
        expected = {
            "CelebA": {"train", "val", "test"},
            "CelebAMask-HQ": {"train", "val", "test"},
            "FFHQ": {"train", "val"},
        }
        assert splits == expected.get(kind, {None})

    def test_shards_hold_every_sample_in_its_split(
        self, source: SampleSource, tmp_path: Path
    ) -> None:
        write_shards(source, out_dir=tmp_path, name="test", samples_per_shard=2, val_fraction=0.5)
        manifest = verify(tmp_path)
        splits = {key: shard.split for shard in manifest.shards for key in shard.keys}
        assert set(splits) == {source.key(index) for index in range(len(source))}
        for index in range(len(source)):
            assert source.split(index) in (None, splits[source.key(index)])
        assert manifest.skipped == ()
        assert manifest.resolution == 32
