"""Requests in, results out: the whole editor behind one method, without any server in it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

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
from neural_photo_editor.diffusion.edit_plan import plan_steps
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.acceleration import Acceleration, accelerate
from neural_photo_editor.editing.admission import (
    MAX_BATCH_PIXELS,
    check_upscaled_size,
    check_variations,
    group_requests,
    no_key_for_receipts,
)
from neural_photo_editor.editing.face_finding import Alignment
from neural_photo_editor.editing.face_regions import label_photo
from neural_photo_editor.editing.face_search import FaceSearch
from neural_photo_editor.editing.finishing import finish_edit
from neural_photo_editor.editing.jobs import (
    Job,
    answer,
    run_batched_stage,
    run_concurrent_stage,
    run_stage,
)
from neural_photo_editor.editing.network_time import NetworkTime
from neural_photo_editor.editing.planning import plan_edit
from neural_photo_editor.editing.preparation import PreparedEdit, prepare_edit
from neural_photo_editor.editing.progress import Check, OnProgress, report_steps
from neural_photo_editor.editing.results import (
    choose_format,
    edit_result,
    segment_result,
    upscale_result,
)
from neural_photo_editor.editing.segmentation import (
    LabelMap,
    MirrorAveraged,
    PhotoSegmenter,
    label_map,
    whole_square,
)
from neural_photo_editor.editing.upscaling import context_of, enlarge_square, upscale_in_tiles
from neural_photo_editor.imaging.geometry import SquareCrop
from neural_photo_editor.imaging.masks import MAX_FEATHER_PX
from neural_photo_editor.networks.srresnet import SRResNet

MOST_THREADS = 4
"""Photos that are decoded, or finished and encoded, at a time."""

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
        upscaling_context: how far the upscaler looks, see `context_of`; 40 pixels are the paper's.
        device: where the networks run.
        max_batch_pixels: requests whose photos and results have more pixels together are worked
            on in several groups, one after the other.
        edits_at_once: requests of a group that are worked on at a time, each in a thread of its
            own; only on a CPU, whose networks take images one by one. A GPU takes all together.
        licenses: of what the networks learned from.
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
        upscaling_context: int = 40,
        device: torch.device | str = "cpu",
        max_batch_pixels: int = MAX_BATCH_PIXELS,
        edits_at_once: int = 1,
        licenses: Sequence[str] = (),
        sign_receipts: SignReceipts | None = None,
    ) -> None:
        if defaults.feather_px > MAX_FEATHER_PX:
            raise ValueError(
                f"feather_px is {defaults.feather_px}; choose defaults with 0 to {MAX_FEATHER_PX}"
            )
        self.device = torch.device(device)
        if edits_at_once > 1 and self.device.type != "cpu":
            raise ValueError(
                f"edits_at_once is {edits_at_once}, and the device {device} computes the edits of "
                "a batch together: set edits_at_once to 1"
            )
        self.denoiser = denoiser.to(self.device).eval()
        self.segmenter = segmenter.to(self.device).eval()
        self.upscaler = upscaler.to(self.device).eval()
        self.network_time = NetworkTime(
            {"denoiser": denoiser, "segmenter": segmenter, "upscaler": upscaler}, self.device
        )
        self.schedule = schedule
        self.defaults = defaults
        self.bundle_digest = bundle_digest
        self.resolution = resolution
        self.segmenter_resolution = segmenter_resolution
        self.max_batch_pixels = max_batch_pixels
        self.licenses = tuple(licenses)
        self.sign_receipts = sign_receipts
        looks = MirrorAveraged(self.segmenter) if defaults.test_time_flip else self.segmenter
        self.look = PhotoSegmenter(looks, segmenter_resolution, self.device)
        self.alignment = Alignment(
            center_x=defaults.face_center_x,
            center_y=defaults.face_center_y,
            height=defaults.face_height,
        )
        self.search = FaceSearch(self.look, self.alignment)
        self.scale = scale
        self.upscaling_context = upscaling_context
        self.limits = ImageLimits(max_bytes=defaults.max_bytes, max_pixels=defaults.max_pixels)
        # For what is no network's work; most of it lets other threads run.
        self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="photos")
        self._edits = ThreadPoolExecutor(edits_at_once, thread_name_prefix="edits")
        self.edits_at_once = edits_at_once

    @classmethod
    def from_bundle(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        acceleration: Acceleration | None = None,
        max_batch_pixels: int = MAX_BATCH_PIXELS,
        edits_at_once: int = 1,
    ) -> "EditPipeline":
        """Load the three networks of an unpacked bundle.

        Args:
            folder: the bundle.
            device: where the networks are to run.
            acceleration: what to do about speed; left out, what suits the device.
            max_batch_pixels, edits_at_once: see the class.

        Raises:
            ValueError: the bundle is damaged, or the device cannot do what was asked for.
        """
        bundle = load_bundle(folder)
        upscaler, scale = bundle.upscaler.network, bundle.upscaler.spec.scale
        assert isinstance(upscaler, SRResNet)
        assert scale is not None
        fast = partial(
            accelerate, device=torch.device(device), acceleration=acceleration or Acceleration()
        )
        return cls(
            denoiser=fast(bundle.denoiser.network),
            segmenter=fast(bundle.segmenter.network),
            upscaler=fast(upscaler),
            schedule=bundle.schedule,
            defaults=bundle.defaults,
            bundle_digest=bundle.digest,
            resolution=bundle.denoiser.spec.resolution,
            segmenter_resolution=bundle.segmenter.spec.resolution,
            scale=scale,
            upscaling_context=context_of(upscaler),
            device=device,
            max_batch_pixels=max_batch_pixels,
            edits_at_once=edits_at_once,
            licenses=bundle.spec.licenses,
        )

    def run(
        self,
        requests: Sequence[Request],
        on_progress: OnProgress | None = None,
        *,
        check: Check | None = None,
    ) -> list[Result | RequestError]:
        """Answer every request, in order; a bad one gets its error and harms no other.

        Edits are denoised together, whatever their strengths, steps and masks, as far as memory
        allows, see ``max_batch_pixels``.

        Args:
            requests: any number of each kind.
            on_progress: told of every step of every edit, by the request's position; returning
                False cancels that edit, which is then answered with a RequestError. It and
                ``check`` are called by several threads where ``edits_at_once`` is above 1.
            check: asked before every stage of every request, after every step of an edit and
                before every tile that is upscaled; raising a RequestError gives that request up.
        """
        answers: list[Result | RequestError] = []
        groups = group_requests(requests, max_pixels=self.max_batch_pixels, scale=self.scale)
        for positions in groups:
            jobs = [Job(requests[position], position) for position in positions]
            if check is not None:
                for job in jobs:
                    job.check = partial(check, job.position)
            parts = [[job] for job in jobs] if self.edits_at_once > 1 else [jobs]
            run = partial(self._run_together, on_progress=on_progress)
            for part in self._edits.map(run, parts) if len(parts) > 1 else map(run, parts):
                answers += part
        return answers

    def planned_steps(self, request: Request) -> int:
        """Return how often the denoiser is evaluated for a request, 0 if it is to be refused."""
        if not isinstance(request, EditRequest):
            return 0
        try:
            plans, _ = plan_edit(request, schedule=self.schedule, defaults=self.defaults)
        except RequestError:
            return 0
        return sum(len(plan_steps(plan, self.schedule)) for plan in plans)

    def _run_together(
        self, jobs: Sequence[Job], on_progress: OnProgress | None
    ) -> list[Result | RequestError]:
        segments, edits, upscales = (
            [job for job in jobs if isinstance(job.request, kind)]
            for kind in (SegmentRequest, EditRequest, UpscaleRequest)
        )
        each = partial(run_stage, networks=self.network_time)
        together = partial(run_batched_stage, networks=self.network_time)
        concurrently = partial(run_concurrent_stage, threads=self._threads)
        with torch.inference_mode():
            concurrently("decode", self._decode, jobs)
            each("segment", self._segment, [*segments, *edits])
            each("prepare", self._prepare, edits)
            together("diffuse", partial(self._diffuse, on_progress=on_progress), edits)
            each("upscale", self._enlarge, edits)
            each("upscale", self._upscale, upscales)
            concurrently("encode", self._finish, jobs)
        return [answer(job) for job in jobs]

    # Stages, in order.

    def _decode(self, job: Job) -> None:
        job.photo = decode_photo(job.request.photo, limits=self.limits)
        if isinstance(job.request, UpscaleRequest):
            check_upscaled_size(job.photo, scale=self.scale, max_pixels=self.limits.max_pixels)
        elif isinstance(job.request, EditRequest):
            check_variations(job.request, job.photo, max_pixels=self.limits.max_pixels)
            if job.request.receipt and self.sign_receipts is None:
                raise no_key_for_receipts()

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
        squares = masked_edit(
            self.denoiser,
            torch.cat([edit.u_0 for edit in edits]).to(self.device),
            x_0=torch.cat([edit.x_0 for edit in edits]).to(self.device),
            mask=torch.cat([edit.model_mask for edit in edits]).to(self.device),
            plans=[plan for job in jobs for plan in job.prepared.plans],
            schedule=self.schedule,
            start=start,
            surroundings=[edit.needs_surroundings for edit in edits],
            on_step=report_steps(jobs, on_progress, schedule=self.schedule),
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
        def upscale_tile(tile: Tensor) -> Tensor:
            job.check()
            enlarged: Tensor = self.upscaler(tile)
            return enlarged

        job.image = upscale_in_tiles(
            upscale_tile,
            job.decoded.rgb,
            scale=self.scale,
            context=self.upscaling_context,
            device=self.device,
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
