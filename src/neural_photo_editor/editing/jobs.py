"""One request on its way through the stages of the pipeline, and what happens when one fails."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from neural_photo_editor.api.codec import DecodedPhoto
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import EditRequest, Request, Result, SegmentRequest
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.editing.segmentation import LabelMap
from neural_photo_editor.imaging.compositing import Photo

logger = get_logger(__name__)


@dataclass
class Job:
    """What is known of one request so far; a job with an error is left out of later stages.

    Attributes:
        square: the edited square at model resolution, float, (1, 3, R, R).
        image: the edited part of the photo, or the upscaled photo, uint8, (H, W, 3).
    """

    request: Request
    photo: DecodedPhoto | None = None
    labels: LabelMap | None = None
    edit: PreparedEdit | None = None
    square: Tensor | None = None
    image: Photo | None = None
    result: Result | None = None
    error: RequestError | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def decoded(self) -> DecodedPhoto:
        assert self.photo is not None
        return self.photo

    @property
    def needs_labels(self) -> bool:
        if isinstance(self.request, EditRequest):
            return bool(self.request.regions)
        return isinstance(self.request, SegmentRequest)


def run_stage(name: str, stage: Callable[[Job], None], jobs: Sequence[Job]) -> None:
    """Run a stage on each job by itself."""
    for job in jobs:
        run_batched_stage(name, lambda batch: stage(batch[0]), [job])


def run_batched_stage(
    name: str, stage: Callable[[Sequence[Job]], None], jobs: Sequence[Job]
) -> None:
    """Run a stage on the jobs that have no error yet; what goes wrong becomes their error."""
    jobs = [job for job in jobs if job.error is None]
    if not jobs:
        return
    start = time.perf_counter()
    error: RequestError | None = None
    try:
        stage(jobs)
    except RequestError as refusal:
        error = refusal
    except Exception:
        # The sender gets no internals; the log gets everything.
        logger.exception("stage %s failed for %d request(s)", name, len(jobs))
        error = internal_error()
    elapsed_ms = round((time.perf_counter() - start) * 1000.0, 3)
    for job in jobs:
        job.error = error
        job.timings_ms[name] = elapsed_ms


def answer(job: Job) -> Result | RequestError:
    """Return the job's error, or its result with the timings filled in."""
    if job.error is not None:
        return job.error
    assert job.result is not None
    metadata = job.result.metadata.model_copy(update={"timings_ms": job.timings_ms})
    return job.result.model_copy(update={"metadata": metadata})
