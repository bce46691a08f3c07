from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_photo_editor.data import shard_journal
from neural_photo_editor.data.shard_journal import (
    FinishedShard,
    find_finished,
    fingerprint_preparation,
    journal_name,
    remove_journals,
    remove_leftovers,
)
from neural_photo_editor.data.shard_manifest import ShardInfo
from neural_photo_editor.data.shard_plan import PlannedShard
from neural_photo_editor.data.storage import ShardStorage


@dataclass(frozen=True)
class Limits:
    max_pixels: int


class Source:
    """What a fingerprint looks at; ``load`` is never called."""

    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)

    def key(self, index: int) -> str:
        return f"k{index}"


PLANS = [
    PlannedShard("train-000000.tar", "train", (0, 2)),
    PlannedShard("val-000000.tar", "val", (1,)),
]


def _fingerprint(plans: list[PlannedShard] = PLANS, /, **settings: Any) -> str:
    return fingerprint_preparation(Source(**settings), plans, jpeg_quality=95)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (64, 128),
        (None, 0),
        (Path("a"), Path("b")),
        (Limits(1), Limits(2)),
        (Source(x=1), Source(x=2)),
        ((1, 2), (2, 1)),
        ({"a": Path("x")}, {"a": Path("y")}),
        (np.zeros(3), np.ones(3)),
        ({"a", "b"}, {"a", "c"}),
    ],
)
def test_a_setting_of_any_kind_counts(one: Any, other: Any) -> None:
    assert _fingerprint(setting=one) != _fingerprint(setting=other)
    assert _fingerprint(setting=one) == _fingerprint(setting=one)


def test_private_attributes_do_not_count() -> None:
    assert _fingerprint(_cache=1) == _fingerprint(_cache=2)


def test_plan_settings_class_and_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Source):
        pass

    other_plan = [PlannedShard("train-000000.tar", "train", (0, 1)), PLANS[1]]
    fingerprints = {
        _fingerprint(),
        _fingerprint(other_plan),
        _fingerprint(PLANS[:1]),
        fingerprint_preparation(Source(), PLANS, jpeg_quality=90),  # type: ignore[arg-type]
        fingerprint_preparation(Other(), PLANS, jpeg_quality=95),  # type: ignore[arg-type]
    }
    monkeypatch.setattr(shard_journal, "version", lambda name: "0.0" if name == "pillow" else "1.0")
    fingerprints.add(_fingerprint())
    assert len(fingerprints) == 6


def _finish(folder: Path, plan: PlannedShard, *, fingerprint: str = "f", size: int = 10) -> None:
    (folder / plan.file).write_bytes(bytes(size))
    info = ShardInfo(file=plan.file, split=plan.split, keys=("k",), bytes=10, sha256="0" * 64)
    record = FinishedShard(
        fingerprint=fingerprint, file=plan.file, info=info, licenses=(), skipped=(), notes=(),
        hashes=("00",),
    )  # fmt: skip
    (folder / journal_name(plan.file)).write_bytes(record.to_bytes())


def test_only_whole_shards_of_the_same_preparation_count(tmp_path: Path) -> None:
    plans = [PlannedShard(f"train-{number:06d}.tar", "train", (number,)) for number in range(7)]
    for plan in plans[:5]:
        _finish(tmp_path, plan)
    _finish(tmp_path, plans[1], fingerprint="another")
    _finish(tmp_path, plans[2], size=9)
    (tmp_path / plans[3].file).unlink()
    (tmp_path / journal_name(plans[4].file)).write_bytes(b'{"fingerprint": "f"')
    (tmp_path / plans[5].file).write_bytes(bytes(10))  # without a record
    renamed = (tmp_path / journal_name(plans[0].file)).read_bytes()
    (tmp_path / plans[6].file).write_bytes(bytes(10))
    (tmp_path / journal_name(plans[6].file)).write_bytes(renamed)
    finished = find_finished(ShardStorage(tmp_path), plans, fingerprint="f")
    assert list(finished) == [plans[0].file]
    assert finished[plans[0].file].hashes == ("00",)


def test_leftovers_go_and_other_files_stay(tmp_path: Path) -> None:
    storage = ShardStorage(tmp_path)
    for plan in PLANS:
        _finish(tmp_path, plan)
    foreign = ["mine.tar", "train-1.tar", "notes.done.json", "contact_sheet.png"]
    leftovers = ["test-000003.tar", "train-000007.tar.tmp", "val-000009.done.json.tmp"]
    for name in foreign + leftovers:
        (tmp_path / name).write_bytes(b"x")
    finished = find_finished(storage, PLANS[:1], fingerprint="f")
    assert remove_leftovers(storage, keep=finished) == 5
    kept = ["train-000000.done.json", "train-000000.tar"]
    assert storage.names() == sorted(foreign + kept)
    remove_journals(storage)
    assert storage.names() == sorted([*foreign, "train-000000.tar"])
