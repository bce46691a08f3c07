import hashlib
from pathlib import Path

from neural_photo_editor.common.fingerprint import sha256_bytes, sha256_file, sha256_json
from neural_photo_editor.common.seeding import derive_seed, numpy_generator


def test_derive_seed_is_stable_across_releases() -> None:
    # Golden: a changed value would change every generated portrait and every training run.
    assert derive_seed(0, "portrait", 7) == 4602794928159283261


def test_derive_seed_separates_types_and_order() -> None:
    seeds = {
        derive_seed(1),
        derive_seed("1"),
        derive_seed(1, 2),
        derive_seed(2, 1),
        derive_seed(12),
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_numpy_generator_repeats() -> None:
    assert numpy_generator(3, "x").random() == numpy_generator(3, "x").random()


def test_digests_agree_with_hashlib(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_file(path) == sha256_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_json_digest_ignores_key_order() -> None:
    assert sha256_json({"a": 1, "b": [2, 3]}) == sha256_json({"b": [2, 3], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
