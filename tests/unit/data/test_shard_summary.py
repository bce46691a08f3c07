from neural_photo_editor.data.shard_manifest import FileNote, ShardInfo, ShardManifest
from neural_photo_editor.data.shard_summary import MAX_REASONS, log_summary


def _manifest(**fields: object) -> ShardManifest:
    shards = (
        ShardInfo(
            file="train-000000.tar",
            split="train",
            keys=tuple(f"k{number}" for number in range(1200)),
            unlabeled=("k1", "k2"),
            bytes=1,
            sha256="0" * 64,
        ),
        ShardInfo(file="val-000000.tar", split="val", keys=("v0",), bytes=1, sha256="0" * 64),
    )
    return ShardManifest(
        name="test", resolution=64, image_format="jpg", licenses=(), shards=shards, **fields
    )


def test_files_are_counted_by_split_and_reason() -> None:
    manifest = _manifest(
        skipped=(
            FileNote(file="a", reason="the image measures 5 x 1,000 pixels"),
            FileNote(file="b", reason="the file is missing"),
            FileNote(file="c", reason="the image measures 70 x 1.5 pixels"),
            FileNote(file="d", reason="the file's MD5 is not the listed one"),
        ),
        notes=(FileNote(file="e", reason="half of the face is cropped away"),),
        near_duplicates=(("k1", "k2", "k3"), ("k7", "v0")),
    )
    assert log_summary(manifest).splitlines() == [
        "1,200  taken, train",
        "    1  taken, val",
        "    2  of them without a label map",
        "    1    of them kept though half of the face is cropped away",
        "    5  of them near-duplicates of each other, in 2 groups",
        "    4  skipped",
        "    2    skipped: the image measures # x # pixels",
        "    1    skipped: the file is missing",
        "    1    skipped: the file's MD5 is not the listed one",
        "1,205  offered",
    ]


def test_what_did_not_happen_takes_no_line_but_skipped_is_always_told() -> None:
    assert log_summary(_manifest()).splitlines() == [
        "1,200  taken, train",
        "    1  taken, val",
        "    2  of them without a label map",
        "    0  skipped",
        "1,201  offered",
    ]


def test_many_reasons_are_cut_and_none_is_lost() -> None:
    letters = [chr(ord("a") + number) for number in range(MAX_REASONS + 3)]
    skipped = tuple(FileNote(file=letter, reason=f"reason {letter}") for letter in letters)
    lines = log_summary(_manifest(skipped=skipped)).splitlines()
    assert lines[-2] == "    3    skipped: 3 other reasons"
    counts = [int(line.split()[0]) for line in lines if "  skipped: " in line]
    assert sum(counts) == len(letters)
