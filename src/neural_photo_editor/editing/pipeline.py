"""Requests in, results out: the whole editor behind one method, without any server in it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, decode_photo, encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditRequest,
    EditResult,
    Request,
    Result,
    SegmentMetadata,
    SegmentRequest,
    SegmentResult,
    UpscaleMetadata,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.artifacts.bundle import ServingDefaults, load_bundle
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.jobs import Job, answer, run_batched_stage, run_stage
from neural_photo_editor.editing.preparation import PreparedEdit, prepare_edit
from neural_photo_editor.editing.segmentation import segment_photos, summarize_regions
from neural_photo_editor.editing.upscaling import enlarge_square, upscale_in_tiles
from neural_photo_editor.imaging.compositing import Photo, composite
from neural_photo_editor.imaging.edit_transfer import transfer_edit_
from neural_photo_editor.imaging.geometry import Box, SquareCrop, put_back, resize
from neural_photo_editor.imaging.masks import MAX_FEATHER_PX, mask_coverage
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo, to_model_range

TRANSFER_WINDOW = 1 / 4
"""Side of the windows in which a color change is fitted, as a share of the square's side."""


class EditPipeline:
    """Answers segment, edit and upscale requests with three networks and a noise schedule.

    Not for use by several threads at once: requests that arrive together belong in one ``run``.

    Args:
        denoiser: (x_t (N, 3, R, R), t (N,)) -> eps or v, as the schedule says;
            trained at ``resolution``.
        segmenter: (N, 3, R', R') -> logits (N, 11, R', R'), trained at ``segmenter_resolution``.
        upscaler: (N, 3, H, W) -> (N, 3, scale * H, scale * W).
        schedule: the noise schedule the denoiser was trained with.
        defaults: what a request that leaves things open gets, and the limits of its images.
        bundle_digest: identifies the networks and defaults in every result.
        resolution, segmenter_resolution: sides of the networks' inputs, in pixels.
        scale: the upscaler's factor.
        device: where the networks run.
    """

    def __init__(
        self,
        *,
        denoiser: nn.Module,
        segmenter: nn.Module,
        upscaler: nn.Module,
        schedule: NoiseSchedule,
        defaults: ServingDefaults,
        bundle_digest: str,
        resolution: int,
        segmenter_resolution: int,
        scale: int = 4,
        device: torch.device | str = "cpu",
    ) -> None:
        if defaults.feather_px > MAX_FEATHER_PX:
            raise ValueError(
                f"feather_px is {defaults.feather_px}; choose defaults with 0 to {MAX_FEATHER_PX}"
            )
        self.device = torch.device(device)
        self.denoiser = denoiser.to(self.device).eval()
        self.segmenter = segmenter.to(self.device).eval()
        self.upscaler = upscaler.to(self.device).eval()
        self.schedule = schedule
        self.defaults = defaults
        self.bundle_digest = bundle_digest
        self.resolution = resolution
        self.segmenter_resolution = segmenter_resolution
        self.scale = scale
        self.limits = ImageLimits(max_bytes=defaults.max_bytes, max_pixels=defaults.max_pixels)

    @classmethod
    def from_bundle(cls, folder: Path, *, device: torch.device | str = "cpu") -> "EditPipeline":
        """Load the three networks of an unpacked bundle; raises ValueError if it is damaged."""
        bundle = load_bundle(folder)
        scale = bundle.upscaler.spec.scale
        assert scale is not None
        return cls(
            denoiser=bundle.denoiser.network,
            segmenter=bundle.segmenter.network,
            upscaler=bundle.upscaler.network,
            schedule=bundle.schedule,
            defaults=bundle.defaults,
            bundle_digest=bundle.digest,
            resolution=bundle.denoiser.spec.resolution,
            segmenter_resolution=bundle.segmenter.spec.resolution,
            scale=scale,
            device=device,
        )

    def run(self, requests: Sequence[Request]) -> list[Result | RequestError]:
        """Answer every request, in order; a bad one gets its error and harms no other.

        Photos that need labels share one segmenter call, and edits share the denoiser's calls,
        whatever their strengths, steps and masks.
        """
        jobs = [Job(request) for request in requests]
        edits = [job for job in jobs if isinstance(job.request, EditRequest)]
        upscales = [job for job in jobs if isinstance(job.request, UpscaleRequest)]
        with torch.inference_mode():
            run_stage("decode", self._decode, jobs)
            run_batched_stage("segment", self._segment, [j for j in jobs if j.needs_labels])
            run_stage("prepare", self._prepare, edits)
            run_batched_stage("diffuse", self._diffuse, edits)
            run_stage("upscale", self._enlarge, edits)
            run_stage("upscale", self._upscale, upscales)
            run_stage("encode", self._finish, jobs)
        return [answer(job) for job in jobs]

    # Stages, in order.

    def _decode(self, job: Job) -> None:
        job.photo = decode_photo(job.request.photo, limits=self.limits)
        if isinstance(job.request, UpscaleRequest):
            self._check_upscaled_size(job.photo)

    def _check_upscaled_size(self, photo: DecodedPhoto) -> None:
        height, width = photo.size
        most = self.limits.max_pixels // self.scale**2
        if height * width > most:
            raise RequestError(
                413,
                f"{self.scale} times {width} x {height} pixels is more than the "
                f"{self.limits.max_pixels:,} pixels a result may have",
                field="photo",
                remedy=f"scale the photo down to at most {most:,} pixels",
            )

    def _segment(self, jobs: Sequence[Job]) -> None:
        labels = segment_photos(
            self.segmenter,
            [job.decoded.rgb for job in jobs],
            resolution=self.segmenter_resolution,
            device=self.device,
        )
        for job, label_map in zip(jobs, labels, strict=True):
            job.labels = label_map

    def _prepare(self, job: Job) -> None:
        assert isinstance(job.request, EditRequest)
        job.edit = prepare_edit(
            job.request,
            job.decoded,
            labels=job.labels,
            schedule=self.schedule,
            defaults=self.defaults,
            limits=self.limits,
            resolution=self.resolution,
        )

    def _diffuse(self, jobs: Sequence[Job]) -> None:
        edits = [job.edit for job in jobs if job.edit is not None]
        squares = masked_edit(
            self.denoiser,
            torch.cat([edit.u_0 for edit in edits]).to(self.device),
            x_0=torch.cat([edit.x_0 for edit in edits]).to(self.device),
            mask=torch.cat([edit.model_mask for edit in edits]).to(self.device),
            plans=[edit.plan for edit in edits],
            schedule=self.schedule,
        )
        for job, square in zip(jobs, torch.split(squares, 1), strict=True):
            job.square = square

    def _enlarge(self, job: Job) -> None:
        assert job.square is not None
        assert job.edit is not None
        crop = job.edit.crop
        if job.edit.painted is not None:
            pixels = self._recolored(job.edit.painted, job.edit, square=job.square)
        else:
            square = enlarge_square(self.upscaler, job.square, scale=self.scale, side=crop.side)
            pixels = put_back(square, crop)
        # 8 bits at once: the floats of every large photo of a batch would not fit into memory.
        job.image = tensor_to_photo(pixels)

    def _recolored(self, painted: Photo, edit: PreparedEdit, *, square: Tensor) -> Tensor:
        """Return the painted photo's own pixels, colored as the model changed the paint."""
        top, left, bottom, right = edit.crop.box
        rows, columns = _rows_and_columns(edit.crop.visible(self.resolution))
        coverage = mask_coverage(edit.mask, edit.crop, resolution=self.resolution)
        return transfer_edit_(
            photo_to_tensor(painted[top:bottom, left:right]).to(self.device),
            before=edit.u_0.to(self.device)[..., rows, columns],
            after=square[..., rows, columns],
            weight=coverage.to(self.device)[..., rows, columns],
            radius=max(1, round(TRANSFER_WINDOW * self.resolution / 2)),
        )

    def _upscale(self, job: Job) -> None:
        low = photo_to_tensor(job.decoded.rgb).to(self.device)
        job.image = tensor_to_photo(upscale_in_tiles(self.upscaler, low, scale=self.scale))

    def _finish(self, job: Job) -> None:
        if isinstance(job.request, SegmentRequest):
            job.result = self._segment_result(job)
        elif isinstance(job.request, UpscaleRequest):
            job.result = self._upscale_result(job)
        else:
            job.result = self._edit_result(job)

    # Results.

    def _segment_result(self, job: Job) -> SegmentResult:
        assert job.labels is not None
        height, width = job.labels.shape
        metadata = SegmentMetadata(
            width=width,
            height=height,
            bundle_digest=self.bundle_digest,
            regions=summarize_regions(job.labels),
        )
        return SegmentResult(image=encode_png(job.labels), metadata=metadata)

    def _upscale_result(self, job: Job) -> UpscaleResult:
        assert job.image is not None
        photo = job.image
        height, width = photo.shape[:2]
        metadata = UpscaleMetadata(
            width=width, height=height, bundle_digest=self.bundle_digest, scale=self.scale
        )
        alpha = None
        if job.decoded.alpha is not None:
            alpha = _resize_alpha(job.decoded.alpha, (height, width))
        image = encode_png(photo, alpha=alpha, icc_profile=job.decoded.icc_profile)
        return UpscaleResult(image=image, metadata=metadata)

    def _edit_result(self, job: Job) -> EditResult:
        assert job.image is not None
        assert job.edit is not None
        photo, edit = job.decoded, job.edit
        top, left, bottom, right = edit.crop.box
        edited = photo.rgb.copy()
        edited[top:bottom, left:right] = job.image
        result = composite(photo.rgb, edited, edit.mask, feather_px=edit.feather_px)
        height, width = photo.size
        metadata = EditMetadata(
            width=width,
            height=height,
            bundle_digest=self.bundle_digest,
            seed=edit.plan.seed,
            sampler=edit.plan.sampler,
            steps=edit.plan.steps,
            resamples=edit.plan.resamples,
            timestep=edit.plan.t0,
            strength=round(edit.strength, 6),
            mask_pixels=int(edit.mask.sum()),
            detail=edit.detail,
            crop=_square_box(edit.crop),
        )
        image = encode_png(result, alpha=photo.alpha, icc_profile=photo.icc_profile)
        return EditResult(image=image, metadata=metadata)


def _resize_alpha(alpha: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    channels = resize(to_model_range(alpha)[None, None].expand(1, 3, -1, -1), size)
    return tensor_to_photo(channels)[..., 0]


def _rows_and_columns(box: Box) -> tuple[slice, slice]:
    top, left, bottom, right = box
    return slice(top, bottom), slice(left, right)


def _square_box(crop: SquareCrop) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the square in photo pixels."""
    top = crop.top - (crop.side - crop.height) // 2
    left = crop.left - (crop.side - crop.width) // 2
    return left, top, left + crop.side, top + crop.side
