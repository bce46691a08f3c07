"""Making an edit again from its receipt, its photo and its bundle, and comparing the bytes."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_photo_editor.api.canonical_pixels import RECEIPT_LIMITS, difference_outside
from neural_photo_editor.api.codec import decode_photo
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.receipt import FileRecord, Receipt, decode_content
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.api.validation import validate_request
from neural_photo_editor.api.verification import Check, Outcome
from neural_photo_editor.artifacts.archive import verify_archive
from neural_photo_editor.artifacts.bundle_spec import BUNDLE_NAME
from neural_photo_editor.editing.acceleration import Acceleration
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.receipts import environment_of
from neural_photo_editor.networks.inference import PreparedDenoiser

NAME = "replay"
ROUNDING = {"png": (8, 1.0), "webp": (8, 1.0), "jpeg": (32, 6.0)}
"""By format: the largest difference of a channel, of 255, that other rounding can make, and the
largest root mean square over the mask. 2 and 0.6 were the most seen; a JPEG's coefficients are
rounded again, which makes 18 and 4 of a third of the channels rounded otherwise."""


def archive_of(path: Path) -> Path | None:
    """Return the archive that `unpacked_bundle` unpacks, or None where ``path`` is unpacked."""
    archives = list(path.glob("*.mar"))
    if path.is_dir() and ((path / "artifacts").is_dir() or len(archives) != 1):
        return None
    return archives[0] if archives else path


@contextmanager
def unpacked_bundle(path: Path) -> Iterator[Path]:
    """Yield the folder of an unpacked bundle: ``path``, or what its ``.mar`` holds, for a while.

    Args:
        path: such a folder, an archive, or a folder with one archive, such as a version in the
            registry.

    Raises:
        ValueError: the archive is none of a bundle, or damaged; nothing of it is unpacked then.
    """
    archive_path = archive_of(path)
    if archive_path is None:
        yield path
        return
    verify_archive(archive_path)
    with tempfile.TemporaryDirectory(prefix="npe-bundle-") as folder:
        with zipfile.ZipFile(archive_path) as archive:
            names = archive.namelist()
            # The handler beside them is not run here.
            wanted = [name for name in names if name.startswith(("artifacts/", BUNDLE_NAME))]
            archive.extractall(folder, wanted)
        yield Path(folder)


def replay_request(receipt: Receipt, photo: bytes) -> EditRequest:
    """Return the request that makes a receipt's edit again, with nothing left open.

    Raises:
        ValueError: the receipt does not hold all files, or holds another than it says.
        RequestError: its values do not make a request.
    """
    edit = receipt.edit
    fields: dict[str, Any] = {
        "photo": photo,
        **edit.model_dump(
            include={"seed", "sampler", "steps", "resamples", "detail", "blend", "format", "color"}
        ),
        edit.start: edit.strength if edit.start == "strength" else edit.timestep,
        "strokes": _file(receipt.strokes),
        "strength_map": _file(receipt.strength_map),
    }
    if receipt.mask.source == "mask":
        fields["mask"] = _content(receipt.mask.png)
    elif receipt.mask.source == "regions":
        fields["regions"] = edit.regions
    return validate_request(EditRequest, fields)


def check_replay(receipt: Receipt, *, photo: bytes, edited: bytes, bundle: Path) -> Check:
    """Make the edit again and compare it with the edited file.

    Args:
        photo, edited: image files.
        bundle: folder of an unpacked bundle.

    Raises:
        ValueError: the bundle is damaged.
    """
    made = receipt.environment
    device = "cuda" if made.device != "cpu" and torch.cuda.is_available() else "cpu"
    with _threads(made.threads):
        pipeline = EditPipeline.from_bundle(
            bundle, device=device, acceleration=Acceleration(precision=made.precision)
        )
        if pipeline.bundle_digest != receipt.bundle_digest:
            detail = f"this is bundle {pipeline.bundle_digest[:12]}, the receipt names "
            return _check(Outcome.FAILED, detail + receipt.bundle_digest[:12])
        try:
            again = _replay(pipeline, replay_request(receipt, photo))
            here = environment_of(pipeline.device, precision=made.precision)
            return _compare(
                receipt, edited, again, reproducible=here == made and _is_deterministic(pipeline)
            )
        except RequestError as error:
            return _check(Outcome.FAILED, f"the edit is refused when replayed: {error.detail}")
        except ValueError as error:
            return _check(Outcome.UNPROVEN, f"cannot be replayed: {error}")


def _replay(pipeline: EditPipeline, request: EditRequest) -> bytes:
    (answer,) = pipeline.run([request])
    if isinstance(answer, RequestError):
        raise answer
    return answer.image


def _compare(receipt: Receipt, edited: bytes, again: bytes, *, reproducible: bool) -> Check:
    if again == edited:
        return _check(Outcome.OK, f"the same {len(again):,} bytes came out")
    if hashlib.sha256(again).hexdigest() == receipt.result.file_sha256:
        return _check(Outcome.OK, "the receipt's result came out; the edited file is another one")
    before, after = (decode_photo(data, limits=RECEIPT_LIMITS) for data in (edited, again))
    if before.size != after.size:
        return _check(Outcome.FAILED, "a picture of another size came out")
    difference = difference_outside(before, after, np.zeros(before.size, np.bool_))
    if not difference.any():
        return _check(Outcome.OK, "the same pixels came out, in other bytes")
    detail = (
        f"{np.count_nonzero(difference):,} pixels came out otherwise, by up to {difference.max()}"
    )
    # A JPEG's blocks reach beyond the mask.
    pixels = max(receipt.mask.pixels, np.count_nonzero(difference))
    rms = float(np.sqrt(np.square(difference, dtype=np.float64).sum() / pixels))
    most_levels, most_rms = ROUNDING[before.format]
    if reproducible or difference.max() > most_levels or rms > most_rms:
        return _check(Outcome.FAILED, detail)
    made = receipt.environment
    return _check(
        Outcome.UNPROVEN,
        f"{detail}: where it was made numbers may be rounded otherwise (version {made.program}, "
        f"torch {made.torch}, {made.device}, {made.processor}, batches of any size)",
    )


def _is_deterministic(pipeline: EditPipeline) -> bool:
    """Tell whether an edit's bits are the same in every batch: see `PreparedDenoiser`.

    A GPU's kernels, and a CPU's without oneDNN, add up in an order that depends on the batch.
    """
    return isinstance(pipeline.denoiser, PreparedDenoiser)


def _file(record: FileRecord | None) -> bytes | None:
    if record is None:
        return None
    data = _content(record.content)
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise ValueError("a file in the receipt is another one than the receipt says")
    return data


def _content(text: str | None) -> bytes:
    if text is None:
        raise ValueError("a file of the request was too large for the receipt")
    return decode_content(text)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use as many threads as the server did, if there are so many cores: sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(outcome: Outcome, detail: str) -> Check:
    return Check(NAME, outcome, detail)
