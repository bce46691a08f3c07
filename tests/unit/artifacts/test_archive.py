import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_photo_editor.artifacts import archive as archives
from neural_photo_editor.artifacts.archive import (
    ARCHIVE_NAME,
    archive_digest,
    fetch_bundle,
    find_bundle,
    publish_bundle,
    read_bundle,
    verify_archive,
)
from neural_photo_editor.artifacts.bundle import load_bundle
from neural_photo_editor.artifacts.digests import write_sums
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import list_versions, resolve, set_alias
from neural_photo_editor.common.fingerprint import sha256_json
from tests.unit.artifacts.conftest import publish_tiny_bundle

BUNDLE = "neural_photo_editor"


def _version(registry: Path, number: int = 1) -> Path:
    return registry / BUNDLE / "versions" / str(number)


def _repack(archive: Path, change: Callable[[dict[str, bytes]], None], **settings: object) -> Path:
    """Rewrite an archive's members in place."""
    with zipfile.ZipFile(archive) as file:
        members = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    change(members)
    with zipfile.ZipFile(archive, "w", **settings) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            file.writestr(name, content)
    return archive


@pytest.fixture
def archive(published_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(_version(published_once) / ARCHIVE_NAME, tmp_path / "bundle.mar"))


def test_a_published_bundle_comes_back_as_it_was(published_once: Path, tmp_path: Path) -> None:
    version = _version(published_once)
    names = {path.name for path in version.iterdir()}
    assert names == {"bundle.json", ARCHIVE_NAME, "lineage.json", "SHA256SUMS"}
    fetched = fetch_bundle(published_once, f"{BUNDLE}@latest", tmp_path / "served")
    assert fetched == tmp_path / "served" / ARCHIVE_NAME
    assert fetched.read_bytes() == (version / ARCHIVE_NAME).read_bytes()
    assert [path.name for path in fetched.parent.iterdir()] == [ARCHIVE_NAME]
    with zipfile.ZipFile(fetched) as file:
        file.extractall(tmp_path / "unpacked")
    bundle = load_bundle(tmp_path / "unpacked")
    assert verify_archive(fetched) == bundle.spec
    assert (tmp_path / "unpacked/lineage.json").read_bytes() == (
        version / "lineage.json"
    ).read_bytes()


def test_the_lineage_leads_from_the_bundle_to_the_data(published_once: Path) -> None:
    spec, lineage = read_bundle(published_once, f"{BUNDLE}@1")
    assert lineage.bundle_digest == spec.digest
    for kind, part in lineage.parts.items():
        artifact = load_artifact(resolve(published_once, f"{kind}@1"))
        assert (part.digest, part.version) == (artifact.digest, 1)
        assert part.provenance == artifact.spec.provenance
        assert part.provenance.data_name == "portraits"
        assert part.metrics == {"loss": 0.5}
    content = json.loads((_version(published_once) / "lineage.json").read_text())
    assert content["parts"]["denoiser"]["provenance"]["data_manifest_digest"] == "7" * 64


def test_an_older_archive_is_replaced_and_kept_where_the_new_one_is_damaged(
    published: Path, tmp_path: Path
) -> None:
    served = fetch_bundle(published, f"{BUNDLE}@latest", tmp_path / "served")
    before = served.read_bytes()
    stored = _version(published) / ARCHIVE_NAME
    stored.write_bytes(before[:-1])
    with pytest.raises(ValueError, match="has other bytes than SHA256SUMS lists"):
        fetch_bundle(published, f"{BUNDLE}@latest", tmp_path / "served")
    assert served.read_bytes() == before
    assert [path.name for path in served.parent.iterdir()] == [ARCHIVE_NAME]


def test_a_bundle_is_fetched_by_the_digest_of_its_archive(published: Path, tmp_path: Path) -> None:
    first = f"{BUNDLE}@sha256:{archive_digest(published, BUNDLE, 1)}"
    content = (_version(published) / ARCHIVE_NAME).read_bytes()
    publish_tiny_bundle(published, tmp_path / "out", steps=11)
    assert find_bundle(published, first)[1] == 1
    assert fetch_bundle(published, first, tmp_path / "served").read_bytes() == content
    (_version(published, 2) / "SHA256SUMS").write_text("damaged")  # It does not stand in the way.
    assert fetch_bundle(published, first, tmp_path / "served").read_bytes() == content


def test_a_digest_does_not_trust_the_registry(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = _version(published)
    digest = archive_digest(published, BUNDLE, 1)
    _repack(version / ARCHIVE_NAME, lambda members: members.update({"handler.py": b"import os"}))
    write_sums(version)
    fetch_bundle(published, f"{BUNDLE}@1", tmp_path / "served")  # Whoever may write there did it.
    with pytest.raises(ValueError, match=r"no version of .* has this archive: sha256:"):
        fetch_bundle(published, f"{BUNDLE}@sha256:{digest}", tmp_path / "by_digest")
    # Replaced after it was found.
    monkeypatch.setattr(archives, "find_bundle", lambda *_: (BUNDLE, 1, digest))
    with pytest.raises(ValueError, match="has another digest than"):
        fetch_bundle(published, f"{BUNDLE}@sha256:{digest}", tmp_path / "by_digest")
    assert not list((tmp_path / "by_digest").iterdir())


@pytest.mark.parametrize("selector", ["sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64])
def test_half_a_digest_is_refused(published_once: Path, tmp_path: Path, selector: str) -> None:
    with pytest.raises(ValueError, match="a digest is sha256: and 64 of"):
        fetch_bundle(published_once, f"{BUNDLE}@{selector}", tmp_path)


def test_an_artifact_is_no_bundle(published_once: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="denoiser@1 is no bundle"):
        fetch_bundle(published_once, "denoiser@1", tmp_path)


def test_an_archive_of_another_bundle_is_refused(published: Path, tmp_path: Path) -> None:
    version = _version(published)

    def other_defaults(members: dict[str, bytes]) -> None:
        content = json.loads(members["bundle.json"])
        content["defaults"]["steps"] = 11
        del content["digest"]
        content["digest"] = sha256_json(content)
        members["bundle.json"] = json.dumps(content).encode()

    _repack(version / ARCHIVE_NAME, other_defaults)
    assert verify_archive(version / ARCHIVE_NAME).defaults.steps == 11
    write_sums(version)
    with pytest.raises(ValueError, match=r"bundle\.json in .* but the rest of the bundle says"):
        fetch_bundle(published, f"{BUNDLE}@1", tmp_path / "served")


def test_a_lineage_of_another_bundle_is_refused(published: Path) -> None:
    lineage = _version(published) / "lineage.json"
    lineage.write_text(
        lineage.read_text().replace(read_bundle(published, f"{BUNDLE}@1")[0].digest, "0" * 64)
    )
    write_sums(_version(published))
    with pytest.raises(ValueError, match=r"bundle of .*lineage\.json is 0000"):
        read_bundle(published, f"{BUNDLE}@1")


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("artifacts/upscaler/model.safetensors", b"x", "model.safetensors has other bytes"),
        ("artifacts/upscaler/spec.json", b"{}", "spec.json has other bytes"),
        ("artifacts/upscaler/SHA256SUMS", b"x", "no digest"),
        ("artifacts/upscaler/weights.pt", b"x", "files of artifacts/upscaler"),
        ("artifacts/upscaler/preview.png", None, "files of artifacts/upscaler"),
        ("artifacts/upscaler/SHA256SUMS", None, "SHA256SUMS is missing"),
        ("artifacts/fourth/model.safetensors", b"x", "fourth"),
        ("bundle.json", None, r"bundle\.json is missing"),
        ("bundle.json", b"{}", "schema_version"),
        ("bundle.json", b" " * (4 * 2**20 + 1), "more than 4194304 bytes"),
        ("../outside", b"x", "leads out of the archive"),
        ("/etc/outside", b"x", "leads out of the archive"),
        ("a\\..\\outside", b"x", "leads out of the archive"),
        ("sitecustomize.py", b"x", "'sitecustomize.py' does not belong into a bundle"),
        ("torch/__init__.py", b"x", "does not belong into a bundle"),
    ],
)
def test_a_changed_archive_is_refused(
    archive: Path, member: str, content: bytes | None, message: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        members.pop(member, None)
        if content is not None:
            members[member] = content

    with pytest.raises(ValueError, match=message):
        verify_archive(_repack(archive, change))


def test_the_same_archive_repacked_without_a_change_is_accepted(archive: Path) -> None:
    before = verify_archive(archive)
    assert verify_archive(_repack(archive, lambda members: None)) == before


def test_a_compressed_member_a_link_and_a_member_that_is_there_twice_are_refused(
    archive: Path,
) -> None:
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("bundle.json", b"{}")
    with pytest.raises(ValueError, match="is there twice"):
        verify_archive(archive)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    _repack(archive, lambda members: None)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link"):
        verify_archive(archive)
    _repack(archive, lambda members: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed"):
        verify_archive(archive)


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.mar").write_bytes(content)
    with pytest.raises(ValueError, match=r"no whole archive|bundle\.json is missing"):
        verify_archive(tmp_path / "x.mar")


def test_a_directory_that_zipfile_stumbles_over_is_refused(archive: Path) -> None:
    content = archive.read_bytes()
    name = content.rindex(b"handler.py")  # In the directory: names end at a zero byte.
    archive.write_bytes(content[:name] + b"\0" + content[name + 1 :])
    with pytest.raises(ValueError, match="no whole archive"):
        verify_archive(archive)


def test_a_damaged_archive_is_not_published(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ValueError, match="no whole archive"):
        publish_bundle(tmp_path / "registry", archive)
    assert list_versions(tmp_path / "registry", BUNDLE) == []
    assert not list((tmp_path / "registry").iterdir())


def test_an_archive_of_version_1_is_published_with_its_artifacts_licenses(
    archive: Path, tmp_path: Path
) -> None:
    def as_the_first_release_wrote_it(members: dict[str, bytes]) -> None:
        content = json.loads(members["bundle.json"])
        content["schema_version"] = 1
        for statement in (content, *content["parts"].values()):
            del statement["licenses"]
        del content["digest"]
        content["digest"] = sha256_json(content)
        members["bundle.json"] = json.dumps(content).encode()
        del members["lineage.json"]

    publish_bundle(tmp_path / "registry", _repack(archive, as_the_first_release_wrote_it))
    set_alias(tmp_path / "registry", BUNDLE, "production", 1)
    spec, _ = read_bundle(tmp_path / "registry", f"{BUNDLE}@production")
    assert spec.licenses == ("CC0-1.0",)
    assert all(part.licenses == ("CC0-1.0",) for part in spec.parts.values())
    assert fetch_bundle(tmp_path / "registry", f"{BUNDLE}@production", tmp_path / "served")
