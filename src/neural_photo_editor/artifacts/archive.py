"""The ``.mar`` of a bundle in the registry: publishing, and fetching it verified. Needs no torch.

A version of a bundle is ``NAME/versions/N/{bundle.json, neural_photo_editor.mar, lineage.json,
SHA256SUMS}``.
"""

import contextlib
import hashlib
import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.bundle_spec import (
    BUNDLE_NAME,
    MODEL_NAME,
    BundleSpec,
    check_same,
)
from neural_photo_editor.artifacts.digests import SUMS_NAME, parse_sums, write_sums
from neural_photo_editor.artifacts.lineage import LINEAGE_NAME, Lineage, bundle_lineage
from neural_photo_editor.artifacts.spec import KINDS, SPEC_NAME, Kind
from neural_photo_editor.artifacts.store import MAX_SMALL_BYTES
from neural_photo_editor.common.fingerprint import sha256_bytes, sha256_file
from neural_photo_editor.common.log import get_logger

ARCHIVE_NAME = f"{MODEL_NAME}.mar"
OTHER_MEMBERS = (
    BUNDLE_NAME,
    LINEAGE_NAME,
    "handler.py",
    "model-config.yaml",
    "MAR-INF/MANIFEST.json",
)
"""What may be in an archive beside ``artifacts/``: the server imports what lies there."""

_DIGEST_PREFIX = "sha256:"
_log = get_logger(__name__)


def verify_archive(archive: Path) -> BundleSpec:
    """Check a ``.mar`` without unpacking it: its members, its description, every artifact's files.

    Of the handler and its configuration only the zip's own checksums are known here;
    the registry's ``SHA256SUMS`` covers the archive as a whole, see :func:`fetch_bundle`.

    Raises:
        ValueError: no such archive, or something in it is missing, superfluous or changed.
    """
    return _inspect(archive)[0]


def publish_bundle(registry: Path | str, archive: Path, *, name: str = MODEL_NAME) -> int:
    """Publish a ``.mar`` with its description, its lineage and its digests.

    Args:
        registry: the registry's folder or address.
        archive: as `bundle.build_bundle` writes it; stays where it is.
        name: of the bundle in the registry.

    Returns:
        The version.

    Raises:
        ValueError: the archive is damaged.
    """
    staged = registries.staging_folder(registry)
    try:
        shutil.copyfile(archive, staged / ARCHIVE_NAME)
        spec, description, lineage = _inspect(staged / ARCHIVE_NAME)
        (staged / BUNDLE_NAME).write_bytes(description)
        (staged / LINEAGE_NAME).write_bytes(lineage.to_bytes())
        write_sums(staged)
        version = registries.publish(registry, name, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    _log.info("published %s@%d, bundle %s, to %s", name, version, spec.digest[:12], registry)
    return version


def read_bundle(registry: Path | str, reference: str) -> tuple[BundleSpec, Lineage]:
    """Return what a published bundle consists of and where it comes from; reads small files only.

    Raises:
        ValueError: the reference does not exist or is no bundle, or a file is damaged.
    """
    name, version = registries.find_version(registry, reference)
    files = registries.read_files(registry, name, version, BUNDLE_NAME, LINEAGE_NAME)
    if files.keys() != {BUNDLE_NAME, LINEAGE_NAME}:
        raise ValueError(f"{reference} is no bundle: it has no {BUNDLE_NAME} and {LINEAGE_NAME}")
    where = f"{registry}/{name}/versions/{version}"
    spec = BundleSpec.parse(files[BUNDLE_NAME], source=f"{where}/{BUNDLE_NAME}")
    source = f"{where}/{LINEAGE_NAME}"
    lineage = Lineage.parse(files[LINEAGE_NAME], bundle=spec, source=source)
    return spec.with_licenses(lineage.licenses()), lineage


def archive_digest(registry: Path | str, name: str, version: int) -> str:
    """Return the SHA-256 of a published archive as its ``SHA256SUMS`` lists it.

    It stands for all that is in the archive; the bundle's digest does not cover the handler.

    Raises:
        ValueError: the version has no archive.
    """
    sums = registries.read_files(registry, name, version, SUMS_NAME)[SUMS_NAME]
    listed = parse_sums(sums, source=f"{registry}/{name}/versions/{version}/{SUMS_NAME}")
    if ARCHIVE_NAME not in listed:
        raise ValueError(f"{name}@{version} is no bundle: it has no {ARCHIVE_NAME}")
    return listed[ARCHIVE_NAME]


def find_bundle(registry: Path | str, reference: str) -> tuple[str, int, str | None]:
    """Return name, version and the digest that the archive must have, if the reference has one.

    ``NAME@sha256:DIGEST`` is the newest version whose archive is listed with this digest. Only the
    archive itself tells whether it has it.

    Raises:
        ValueError: as `registry.find_version`, or no version has this digest.
    """
    name, _, selector = reference.partition("@")
    if not selector.startswith(_DIGEST_PREFIX):
        return *registries.find_version(registry, reference), None
    wanted = selector.removeprefix(_DIGEST_PREFIX)
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise ValueError(f"{reference!r}: a digest is sha256: and 64 of 0-9 and a-f")
    versions = registries.list_versions(registry, name)
    for version in reversed(versions):
        # Another version that is damaged, or deleted at this moment, is none of our concern.
        with contextlib.suppress(ValueError, FileNotFoundError):
            if archive_digest(registry, name, version) == wanted:
                return name, version, wanted
    raise ValueError(
        f"no version of {name} in {registry} has this archive: {selector}; versions: {versions}"
    )


def fetch_bundle(registry: Path | str, reference: str, folder: Path) -> Path:
    """Copy a bundle's archive to where it will be served from, and verify the copy.

    Compared are the digest of the archive, its description with the published one, and the digests
    of all files of its artifacts; nothing is unpacked or loaded. A reference with a digest does
    not trust the registry: the copy itself must have it.

    Args:
        registry: the registry's folder or address.
        reference: such as ``neural_photo_editor@production``, or with a digest as in `find_bundle`.
        folder: receives ``neural_photo_editor.mar``, whole or not at all; an older one is replaced.

    Returns:
        Path of the archive.

    Raises:
        ValueError: the reference does not exist or is no bundle, or something was changed.
    """
    bundle_name, version, wanted = find_bundle(registry, reference)
    read_bundle(registry, f"{bundle_name}@{version}")
    source = registries.resolve(registry, f"{bundle_name}@{version}")
    listed = parse_sums((source / SUMS_NAME).read_bytes(), source=source / SUMS_NAME)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        copy = Path(scratch, ARCHIVE_NAME)
        for name in (ARCHIVE_NAME, BUNDLE_NAME):
            if name not in listed or not (source / name).is_file():
                raise ValueError(f"{source / name} is missing or not listed in {SUMS_NAME}")
            shutil.copyfile(source / name, copy.with_name(name))
            if sha256_file(copy.with_name(name)) != listed[name]:
                raise ValueError(f"{source / name} has other bytes than {SUMS_NAME} lists")
        if wanted not in (None, listed[ARCHIVE_NAME]):
            raise ValueError(f"{source / ARCHIVE_NAME} has another digest than {reference}")
        spec, description, _ = _inspect(copy)
        published = copy.with_name(BUNDLE_NAME).read_bytes()
        check_same(f"{BUNDLE_NAME} in {source / ARCHIVE_NAME}", description, published)
        copy.chmod(0o644)
        copy.replace(folder / ARCHIVE_NAME)
    _log.info("fetched %s, bundle %s, into %s", reference, spec.digest[:12], folder)
    return folder / ARCHIVE_NAME


def _inspect(archive: Path) -> tuple[BundleSpec, bytes, Lineage]:
    """Return the description, its bytes and the lineage, after verifying every member of a part."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = _members(content, archive)
            description = _read(content, members, BUNDLE_NAME, archive)
            spec = BundleSpec.parse(description, source=f"{archive}: {BUNDLE_NAME}")
            spec_files: dict[Kind, bytes] = {}
            for kind in KINDS:
                digest = _verify_part(content, members, kind, archive)
                check_same(f"digest of artifacts/{kind}", digest, spec.parts[kind].digest)
                spec_files[kind] = _read(content, members, f"artifacts/{kind}/{SPEC_NAME}", archive)
    except ValueError:
        raise
    except Exception as error:  # zipfile raises nearly anything, such as IndexError.
        said = str(error) or type(error).__name__
        raise ValueError(f"{archive} is no whole archive: copy it again ({said})") from error
    parts = {name.split("/")[1] for name in members if name.startswith("artifacts/")}
    check_same(f"artifacts of {archive}", sorted(parts), sorted(KINDS))
    lineage = bundle_lineage(spec, spec_files)
    return spec.with_licenses(lineage.licenses()), description, lineage


def _members(content: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files by name after refusing what could be unpacked elsewhere or grow."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in content.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise ValueError(f"{archive}: {info.filename!r} leads out of the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"{archive}: {info.filename!r} is a link")
        if info.filename in members:
            raise ValueError(f"{archive}: {info.filename!r} is there twice")
        if info.is_dir():
            continue
        other = not info.filename.startswith("artifacts/")
        if other and info.filename not in OTHER_MEMBERS:
            raise ValueError(f"{archive}: {info.filename!r} does not belong into a bundle")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{archive}: {info.filename!r} is compressed: pack with zip-store")
        members[info.filename] = info
    return members


def _verify_part(
    content: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], kind: Kind, archive: Path
) -> str:
    """Check every file of an artifact and return the artifact's digest."""
    prefix = f"artifacts/{kind}/"
    sums = _read(content, members, prefix + SUMS_NAME, archive)
    listed = parse_sums(sums, source=f"{archive}: {prefix}{SUMS_NAME}")
    present = {name.removeprefix(prefix) for name in members if name.startswith(prefix)}
    check_same(f"files of {prefix}", sorted(present - {SUMS_NAME}), sorted(listed))
    for name, digest in listed.items():
        found = hashlib.sha256()
        with content.open(members[prefix + name]) as file:
            while block := file.read(2**20):
                found.update(block)
        if found.hexdigest() != digest:
            raise ValueError(f"{archive}: {prefix}{name} has other bytes than listed")
    return sha256_bytes(sums)


def _read(
    content: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, archive: Path
) -> bytes:
    if name not in members:
        raise ValueError(f"{archive}: {name} is missing: this is no bundle")
    if members[name].file_size > MAX_SMALL_BYTES:
        raise ValueError(f"{archive}: {name} has more than {MAX_SMALL_BYTES} bytes")
    return content.read(members[name])
