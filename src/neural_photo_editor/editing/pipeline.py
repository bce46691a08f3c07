"""Requests in, results out: the whole editor behind one method, without any server in it."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

import torch
from torch import nn

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, decode_photo, encode_image
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    Request,
    Result,
    SegmentRequest,
    UpscaleRequest,
)
from neural_photo_editor.artifacts.bundle import ServingDefaults, load_bundle
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.face_finding import Alignment
from neural_photo_editor.editing.face_regions import label_photo
from neural_photo_editor.editing.face_search import FaceSearch
from neural_photo_editor.editing.finishing import finish_edit
from neural_photo_editor.editing.jobs import Job, answer, run_batched_stage, run_stage
from neural_photo_editor.editing.preparation import PreparedEdit, prepare_edit
from neural_photo_editor.editing.progress import OnProgress, report_steps
from neural_photo_editor.editing.results import (
    choose_format,
    edit_result,
    segment_result,
    upscale_result,
)
from neural_photo_editor.editing.segmentation import (
    LabelMap,
    PhotoSegmenter,
    label_map,
    whole_square,
)
from neural_photo_editor.editing.upscaling import enlarge_square, upscale_in_tiles
from neural_photo_editor.imaging.geometry import SquareCrop
from neural_photo_editor.imaging.masks import MAX_FEATHER_PX
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.inference import native_dtype, prepare_for_inference

SignReceipts = Callable[[EditRequest, DecodedPhoto, PreparedEdit, EditResult], EditResult]
"""Adds the signed receipt of each image to a result."""


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
        sign_receipts: see :mod:`editing.receipts`; without it requests for receipts are refused.
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
        sign_receipts: SignReceipts | None = None,
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
        self.sign_receipts = sign_receipts
        self.look = PhotoSegmenter(self.segmenter, segmenter_resolution, self.device)
        self.alignment = Alignment(
            center_x=defaults.face_center_x,
            center_y=defaults.face_center_y,
            height=defaults.face_height,
        )
        self.search = FaceSearch(self.look, self.alignment)
        self.scale = scale
        self.limits = ImageLimits(max_bytes=defaults.max_bytes, max_pixels=defaults.max_pixels)

    @classmethod
    def from_bundle(cls, folder: Path, *, device: torch.device | str = "cpu") -> "EditPipeline":
        """Load the three networks of an unpacked bundle; raises ValueError if it is damaged.

        On a CPU the denoiser is prepared for inference, in bfloat16 where the CPU has it.
        """
        bundle = load_bundle(folder)
        scale = bundle.upscaler.spec.scale
        assert scale is not None
        return cls(
            denoiser=_made_fast(bundle.denoiser.network, torch.device(device)),
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

    def run(
        self, requests: Sequence[Request], on_progress: OnProgress | None = None
    ) -> list[Result | RequestError]:
        """Answer every request, in order; a bad one gets its error and harms no other.

        Edits are denoised together, whatever their strengths, steps and masks.

        Args:
            requests: any number of each kind.
            on_progress: told of every step of every edit, by the request's position; returning
                False cancels that edit, which is then answered with a RequestError.
        """
        jobs = [Job(request, position) for position, request in enumerate(requests)]
        segments, edits, upscales = (
            [job for job in jobs if isinstance(job.request, kind)]
            for kind in (SegmentRequest, EditRequest, UpscaleRequest)
        )
        with torch.inference_mode():
            run_stage("decode", self._decode, jobs)
            run_stage("segment", self._segment, [*segments, *edits])
            run_stage("prepare", self._prepare, edits)
            run_batched_stage("diffuse", partial(self._diffuse, on_progress=on_progress), edits)
            run_stage("upscale", self._enlarge, edits)
            run_stage("upscale", self._upscale, upscales)
            run_stage("encode", self._finish, jobs)
        return [answer(job) for job in jobs]

    # Stages, in order.

    def _decode(self, job: Job) -> None:
        job.photo = decode_photo(job.request.photo, limits=self.limits)
        if isinstance(job.request, UpscaleRequest):
            self._check_upscaled_size(job.photo)
        elif isinstance(job.request, EditRequest):
            self._check_variations(job.request, job.photo)
            self._check_receipt(job.request)

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

    def _segment(self, job: Job) -> None:
        photo = job.decoded.rgb
        # One by one: on a CPU a network's sums depend on the batch, and labels must not.
        job.logits = self.look(photo, [whole_square(*photo.shape[:2])])
        job.faces = self.search(photo, job.logits)
        if isinstance(job.request, SegmentRequest):
            job.labels = label_photo(
                job.decoded.size,
                faces=job.faces,
                segment=partial(self._label, job),
                alignment=self.alignment,
            )

    def _label(self, job: Job, square: SquareCrop) -> LabelMap:
        """Return the label map of the part of the photo that a square shows."""
        logits = job.logits
        if logits is None or square != whole_square(*job.decoded.size):
            logits = self.look(job.decoded.rgb, [square])
        return label_map(logits[0].numpy(), square)

    def _prepare(self, job: Job) -> None:
        assert isinstance(job.request, EditRequest)
        job.image_format = choose_format(job.request, job.decoded)
        job.edit = prepare_edit(
            job.request,
            job.decoded,
            faces=job.faces,
            segment=partial(self._label, job),
            alignment=self.alignment,
            schedule=self.schedule,
            defaults=self.defaults,
            limits=self.limits,
            resolution=self.resolution,
        )

    def _diffuse(self, jobs: Sequence[Job], *, on_progress: OnProgress | None) -> None:
        edits = [job.prepared for job in jobs for _ in job.prepared.plans]
        start = None
        if any(edit.start is not None for edit in edits):
            at_once = edits[0].model_mask.long().fill_(self.schedule.num_timesteps)
            starts = [at_once if edit.start is None else edit.start for edit in edits]
            start = torch.cat(starts).to(self.device)
        on_step = None
        if on_progress is not None:
            on_step = report_steps(jobs, on_progress, schedule=self.schedule)
        squares = masked_edit(
            self.denoiser,
            torch.cat([edit.u_0 for edit in edits]).to(self.device),
            x_0=torch.cat([edit.x_0 for edit in edits]).to(self.device),
            mask=torch.cat([edit.model_mask for edit in edits]).to(self.device),
            plans=[plan for job in jobs for plan in job.prepared.plans],
            schedule=self.schedule,
            start=start,
            on_step=on_step,
        )
        counts = [len(job.prepared.plans) for job in jobs]
        for job, own in zip(jobs, torch.split(squares, counts), strict=True):
            job.squares = torch.split(own, 1)

    def _enlarge(self, job: Job) -> None:
        edit = job.prepared
        if edit.detail != "photo":
            job.enlarged = [
                enlarge_square(self.upscaler, square, scale=self.scale, side=edit.crop.side).cpu()
                for square in job.squares
            ]

    def _upscale(self, job: Job) -> None:
        job.image = upscale_in_tiles(
            self.upscaler, job.decoded.rgb, scale=self.scale, device=self.device
        )

    def _finish(self, job: Job) -> None:
        digest = self.bundle_digest
        if isinstance(job.request, SegmentRequest):
            assert job.labels is not None
            job.result = segment_result(job.labels, bundle_digest=digest)
        elif isinstance(job.request, UpscaleRequest):
            assert job.image is not None
            job.result = upscale_result(
                job.image, job.decoded, scale=self.scale, bundle_digest=digest
            )
        else:
            job.result = self._edit_result(job)

    def _check_variations(self, request: EditRequest, photo: DecodedPhoto) -> None:
        """Bound what the results of one request take up together."""
        height, width = photo.size
        most = self.limits.max_pixels // (height * width)
        if request.variations > max(most, 1):
            raise RequestError(
                413,
                f"{request.variations} variations of {width} x {height} pixels are more than the "
                f"{self.limits.max_pixels:,} pixels the results of a request may have",
                field="variations",
                remedy=f"send at most {most} variations of a photo of this size",
            )

    def _check_receipt(self, request: EditRequest) -> None:
        if request.receipt and self.sign_receipts is None:
            raise RequestError(
                422,
                "this server has no key to sign receipts with",
                field="receipt",
                remedy="leave receipt out, or ask who runs the server to set NPE_RECEIPT_KEY",
            )

    def _edit_result(self, job: Job) -> EditResult:
        photo, edit = job.decoded, job.prepared
        images = []
        # One after the other: a large photo and one copy of it are enough to hold.
        for square, enlarged in zip_longest(job.squares, job.enlarged):
            finished = finish_edit(photo.rgb, edit, square=square, enlarged=enlarged)
            images.append(
                encode_image(
                    finished,
                    format=job.image_format,
                    alpha=photo.alpha,
                    icc_profile=photo.icc_profile,
                )
            )
        result = edit_result(
            edit,
            images,
            size=photo.size,
            image_format=job.image_format,
            bundle_digest=self.bundle_digest,
        )
        assert isinstance(job.request, EditRequest)
        if job.request.receipt and self.sign_receipts is not None:
            return self.sign_receipts(job.request, photo, edit, result)
        return result


def _made_fast(denoiser: nn.Module, device: torch.device) -> nn.Module:
    """Return what computes the same as a denoiser, or nearly, in less time on this device."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type == "cpu" and isinstance(denoiser, DenoisingUNet) and has_onednn:
        return prepare_for_inference(denoiser, dtype=native_dtype())
    return denoiser
