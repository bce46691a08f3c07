"""A registry in a real S3 server process: exporters that race or die, readers, promotion."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fsspec import filesystem

from neural_photo_editor.artifacts.archive import fetch_bundle, read_bundle
from neural_photo_editor.artifacts.bundle import load_bundle
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.garbage import ABANDONED_S, delete_garbage, find_garbage
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.open_store import open_store
from neural_photo_editor.artifacts.policy import Policy
from neural_photo_editor.artifacts.promotion import promote
from neural_photo_editor.artifacts.registry import (
    find_version,
    list_changes,
    list_names,
    list_versions,
    publish,
    resolve,
    rollback,
    set_alias,
    staging_folder,
)
from tests.unit.artifacts.conftest import KINDS, export_tiny, publish_tiny_bundle

pytestmark = pytest.mark.slow
BUNDLE = "neural_photo_editor"

# Uploads one file of version 2, says so, and goes on as if the rest took forever.
DYING_EXPORTER = """
import sys
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.registry import publish, staging_folder
from neural_photo_editor.artifacts.open_store import open_store
registry = sys.argv[1]
staged = staging_folder(registry)
for name in ("a", "b"):
    (staged / name).write_text(name)
write_sums(staged)
fs = open_store(registry).fs
put_file = fs.put_file
def slow(source, target):
    put_file(source, target)
    print("uploaded", flush=True)
    sys.stdin.read()
fs.put_file = slow
publish(registry, "ddpm", staged)
"""


def _publish(registry: str, content: str = "x") -> int:
    staged = staging_folder(registry)
    (staged / "file").write_text(content)
    write_sums(staged)
    return publish(registry, "ddpm", staged)


def test_from_export_to_a_served_bundle_and_back(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = f"{bucket}/deep/registry"
    for kind in KINDS:
        exported = export_tiny(kind, registry)
        assert exported.name == "1"
    for steps in (10, 11):
        publish_tiny_bundle(registry, tmp_path / "out", steps=steps)
    assert list_names(registry) == sorted([*KINDS, BUNDLE])
    for version in (1, 2):
        promote(registry, f"{BUNDLE}@{version}", "canary", policy=Policy())

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    archive = fetch_bundle(registry, f"{BUNDLE}@canary", tmp_path / "served")
    with_files = tmp_path / "unpacked"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, with_files], check=True)
    bundle = load_bundle(with_files)
    assert bundle.digest == read_bundle(registry, f"{BUNDLE}@canary")[0].digest
    assert bundle.defaults.steps == 11
    digest = load_artifact(resolve(registry, "denoiser@latest")).digest
    assert digest == bundle.denoiser.digest

    assert rollback(registry, BUNDLE, "canary").to_version == 1
    assert find_version(registry, f"{BUNDLE}@canary") == (BUNDLE, 1)
    assert [c.to_version for c in list_changes(registry, BUNDLE, "canary")] == [1, 2, 1]

    publish_tiny_bundle(registry, tmp_path / "out", steps=12)
    assert find_garbage(registry, keep_newest=1).versions == [(BUNDLE, 2)]
    delete_garbage(registry, keep_newest=1)
    assert list_versions(registry, BUNDLE) == [1, 3]
    assert not [p for p in filesystem("s3").find(registry) if "versions/2/" in p]


def test_of_exporters_that_race_each_gets_a_version_of_its_own(bucket: str) -> None:
    versions: list[int] = []
    barrier = threading.Barrier(6)

    def export(content: str) -> None:
        barrier.wait()
        versions.append(_publish(bucket, content))

    threads = [threading.Thread(target=export, args=(str(i),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3, 4, 5, 6] == list_versions(bucket, "ddpm")
    contents = {(resolve(bucket, f"ddpm@{v}") / "file").read_text() for v in versions}
    assert contents == {"0", "1", "2", "3", "4", "5"}
    assert find_version(bucket, "ddpm@latest") == ("ddpm", 6)


def test_changes_of_an_alias_that_race_are_all_in_the_history(bucket: str) -> None:
    for number in range(4):
        _publish(bucket, str(number))
    barrier = threading.Barrier(4)

    def promote_one(version: int) -> None:
        barrier.wait()
        set_alias(bucket, "ddpm", "production", version)

    threads = [threading.Thread(target=promote_one, args=(i,)) for i in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changes = list_changes(bucket, "ddpm", "production")
    assert sorted(change.to_version for change in changes) == [1, 2, 3, 4]
    assert [c.from_version for c in changes[1:]] == [c.to_version for c in changes[:-1]]
    assert find_version(bucket, "ddpm@production") == ("ddpm", changes[-1].to_version)


def test_an_exporter_that_dies_leaves_no_version(bucket: str) -> None:
    assert _publish(bucket) == 1
    exporter = subprocess.Popen(
        [sys.executable, "-c", DYING_EXPORTER, bucket],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert exporter.stdout is not None
    assert exporter.stdout.readline() == "uploaded\n"
    exporter.kill()
    exporter.communicate()
    assert [p for p in filesystem("s3").find(bucket) if "ddpm/versions/2/" in p]
    assert list_versions(bucket, "ddpm") == [1]
    with pytest.raises(ValueError, match="no version 2"):
        resolve(bucket, "ddpm@2")
    assert _publish(bucket) == 3
    store = open_store(bucket)
    assert store.abandoned(older_than_s=ABANDONED_S) == []
    assert store.abandoned(older_than_s=-60) == ["ddpm/versions/2"]
    store.remove_abandoned("ddpm/versions/2")
    assert not [p for p in filesystem("s3").find(bucket) if "ddpm/versions/2/" in p]


def test_the_command_line_reads_a_bucket(bucket: str, tmp_path: Path) -> None:
    for kind in KINDS:
        export_tiny(kind, bucket)
    publish_tiny_bundle(bucket, tmp_path / "out")
    npe = [str(Path(sys.executable).with_name("npe")), "registry"]
    done = subprocess.run(
        [*npe, "pull", f"{BUNDLE}@latest", "--to", tmp_path / "served"],
        env=os.environ | {"NPE_REGISTRY": bucket},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "served" / "neural_photo_editor.mar").is_file()


def test_a_bucket_that_does_not_exist_holds_nothing(bucket: str) -> None:
    assert list_names("s3://nothing") == []
    with pytest.raises((ValueError, OSError), match=r"s3://nothing|bucket"):
        resolve("s3://nothing", "ddpm@latest")
