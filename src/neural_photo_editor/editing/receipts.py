"""Signing an edit's receipts where its pixels are: in the worker, after encoding.

The files are decoded again, so that a receipt speaks of what they hold, not of what was meant.
"""

import base64
import hashlib
import platform
from datetime import UTC, datetime

import torch

import neural_photo_editor
from neural_photo_editor.api.canonical_pixels import (
    RECEIPT_LIMITS,
    mask_digest,
    mask_png,
    pixels_digest,
)
from neural_photo_editor.api.codec import DecodedPhoto, decode_photo
from neural_photo_editor.api.receipt import (
    MAX_EMBEDDED_BYTES,
    SCHEMA_VERSION,
    EditRecord,
    EnvironmentRecord,
    FileRecord,
    ImageRecord,
    MaskRecord,
    Receipt,
)
from neural_photo_editor.api.schema import EditMetadata, EditRequest, EditResult
from neural_photo_editor.api.signing import SigningKey, key_to_text
from neural_photo_editor.editing.acceleration import Precision
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.imaging.masks import Mask

_FEATURES = ("amx_bf16", "avx512_bf16", "avx512_vnni")


class ReceiptSigner:
    """Adds a receipt of each image to an edit's result: what `EditPipeline` takes to sign receipts.

    Args:
        key: the secret key.
        device: where the pipeline's networks run.
        precision: what they compute in.
    """

    def __init__(
        self,
        key: SigningKey,
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
    ) -> None:
        self._key = key
        self._device = torch.device(device)
        self._precision: Precision = precision

    def __call__(
        self, request: EditRequest, photo: DecodedPhoto, edit: PreparedEdit, result: EditResult
    ) -> EditResult:
        """Return the result with its receipts.

        Raises:
            RuntimeError: a pixel outside the mask changed in a format that keeps all: what is not
                so is not signed.
        """
        unsigned = self._unsigned(request, photo, edit, result)
        receipts = []
        for image, seed in zip(result.images, result.metadata.seeds, strict=True):
            receipt = unsigned.model_copy(
                update={
                    "result": record_image(image, edit.mask),
                    "edit": unsigned.edit.model_copy(update={"seed": seed}),
                }
            )
            receipts.append(self._sign(receipt, must_be_exact=result.metadata.exact).to_document())
        return result.model_copy(update={"receipts": tuple(receipts)})

    def _unsigned(
        self, request: EditRequest, photo: DecodedPhoto, edit: PreparedEdit, result: EditResult
    ) -> Receipt:
        """Return what the receipts of all variations share, the photo in place of the results."""
        height, width = photo.size
        original = record_image(request.photo, edit.mask, photo)
        mask, strokes, strength_map = _record_files(request, edit.mask)
        return Receipt(
            schema_version=SCHEMA_VERSION,
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            bundle_digest=result.metadata.bundle_digest,
            width=width,
            height=height,
            photo=original,
            result=original,
            exact=True,
            mask=mask,
            strokes=strokes,
            strength_map=strength_map,
            edit=_record_edit(request, edit, result.metadata),
            replayable=_is_complete(mask, strokes, strength_map),
            environment=environment_of(self._device, precision=self._precision),
            key_id=self._key.key_id,
            public_key=key_to_text(self._key.public_key),
            signature="",
        )

    def _sign(self, receipt: Receipt, *, must_be_exact: bool) -> Receipt:
        exact = receipt.photo.outside_sha256 == receipt.result.outside_sha256
        if must_be_exact and not exact:
            raise RuntimeError("a pixel outside the mask changed: this edit is not signed")
        unsigned = receipt.model_copy(update={"exact": exact})
        signature = base64.b64encode(self._key.sign(unsigned.signed_bytes())).decode("ascii")
        return unsigned.model_copy(update={"signature": signature})


def record_image(data: bytes, mask: Mask, photo: DecodedPhoto | None = None) -> ImageRecord:
    """Describe an image file and what it decodes to (``photo``, where known already)."""
    if photo is None:
        photo = decode_photo(data, field="result", limits=RECEIPT_LIMITS)
    return ImageRecord(
        file_sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        pixels_sha256=pixels_digest(photo),
        outside_sha256=pixels_digest(photo, outside=mask),
    )


def environment_of(device: torch.device, *, precision: Precision) -> EnvironmentRecord:
    """Describe this process as far as an edit's last bits depend on it."""
    capabilities = torch.cpu.get_capabilities()
    features = [name for name in _FEATURES if capabilities.get(name)]
    level = torch.backends.cpu.get_cpu_capability()
    return EnvironmentRecord(
        program=neural_photo_editor.__version__,
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processor=" ".join([platform.machine(), level, *features]),
        precision=precision,
        threads=torch.get_num_threads(),
    )


def _record_edit(request: EditRequest, edit: PreparedEdit, metadata: EditMetadata) -> EditRecord:
    plan = edit.plans[0]
    return EditRecord(
        seed=plan.seed,
        sampler=plan.sampler,
        steps=plan.steps,
        resamples=plan.resamples,
        start="strength" if request.timestep is None else "timestep",
        strength=edit.strength,
        timestep=plan.t0,
        detail=edit.detail,
        blend=edit.blend,
        format=metadata.format,  # type: ignore[arg-type]  # of choose_format
        color=request.color,
        regions=request.regions,
        crop=metadata.crop,  # type: ignore[arg-type]  # of edit_result
        face=metadata.face,
    )


def _record_files(
    request: EditRequest, mask: Mask
) -> tuple[MaskRecord, FileRecord | None, FileRecord | None]:
    """Describe mask, strokes and strength map; take them in, in this order, while there is room."""
    room = MAX_EMBEDDED_BYTES
    embedded: list[str | None] = []
    for data in (mask_png(mask), request.strokes, request.strength_map):
        fits = data is not None and len(data) <= room
        room -= len(data) if data is not None and fits else 0
        embedded.append(base64.b64encode(data).decode() if data is not None and fits else None)
    return (
        MaskRecord(
            sha256=mask_digest(mask),
            pixels=int(mask.sum()),
            source="mask" if request.mask else "regions" if request.regions else "strokes",
            png=embedded[0],
        ),
        _record_file(request.strokes, embedded[1]),
        _record_file(request.strength_map, embedded[2]),
    )


def _record_file(data: bytes | None, content: str | None) -> FileRecord | None:
    if data is None:
        return None
    return FileRecord(
        sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), content=content
    )


def _is_complete(
    mask: MaskRecord, strokes: FileRecord | None, strength_map: FileRecord | None
) -> bool:
    files = [file.content for file in (strokes, strength_map) if file is not None]
    return None not in files and (mask.source != "mask" or mask.png is not None)
