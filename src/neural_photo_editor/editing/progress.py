"""Telling the senders of a batch how far their edits are, and giving up those they cancel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.diffusion.edit_plan import plan_steps
from neural_photo_editor.diffusion.reverse_process import OnStep, StepReport
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.jobs import Job, still_wanted
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.geometry import SquareCrop
from neural_photo_editor.imaging.value_range import tensor_to_photo

logger = get_logger(__name__)


@dataclass(frozen=True)
class EditProgress:
    """How far one edit is.

    Attributes:
        step: steps taken, from 1.
        total_steps: steps in all, repetitions included.
        x_0: what the model takes each variation for, float, (V, 3, R, R), in [-1, 1].
        crop: the square of the photo that it works on.
    """

    step: int
    total_steps: int
    x_0: Tensor
    crop: SquareCrop

    def preview(self, variation: int = 0) -> Photo:
        """Return the square as the model sees it now, uint8, (R, R, 3)."""
        return tensor_to_photo(self.x_0[variation : variation + 1])


OnProgress = Callable[[int, EditProgress], bool | None]
"""(position of the request, how far it is) -> False to cancel that request."""

Check = Callable[[int], None]
"""(position of the request): raises RequestError to give that request up."""


def canceled_error() -> RequestError:
    """Return the answer to a request whose sender canceled it."""
    return RequestError(
        409, "the edit was canceled", field=None, remedy="send it again to start from anew"
    )


def report_steps(
    jobs: Sequence[Job], on_progress: OnProgress | None, *, schedule: NoiseSchedule
) -> OnStep:
    """Return what the sampler calls after each step of a batch.

    The progress of each job is told, and it is asked whether it is still wanted. A callback that
    raises fails its own request and no other.

    Args:
        jobs: the edits of the batch, each with as many places in it as it has variations.
        on_progress: told of each edit's step, if anybody wants to know.
        schedule: the noise schedule, on which a plan's steps depend.
    """
    owners = [job for job in jobs for _ in job.prepared.plans]
    totals = {job.position: len(plan_steps(job.prepared.plans[0], schedule)) for job in jobs}

    def on_step(report: StepReport) -> list[int]:
        for job in jobs:
            rows = [row for row, item in enumerate(report.items) if owners[item] is job]
            if rows and on_progress is not None:
                total, crop = totals[job.position], job.prepared.crop
                progress = EditProgress(report.step, total, report.x_0[rows], crop)
                job.error = _refusal(on_progress, job, progress)
            if rows and job.error is None:
                still_wanted(job)
        return [item for item in report.items if owners[item].error is not None]

    return on_step


def _refusal(on_progress: OnProgress, job: Job, progress: EditProgress) -> RequestError | None:
    try:
        return canceled_error() if on_progress(job.position, progress) is False else None
    except Exception:
        logger.exception("the progress of request %d could not be told", job.position)
        return internal_error()
