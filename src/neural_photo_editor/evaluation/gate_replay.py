"""Making a recipe's edit with a bundle, and what can be measured of the result."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.api.canonical_pixels import RECEIPT_LIMITS, difference_outside
from neural_photo_editor.api.codec import DecodedPhoto, decode_photo, decode_strokes
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.planning import has_paint
from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.imaging.compositing import Photo, paint_over
from neural_photo_editor.imaging.geometry import resize
from neural_photo_editor.imaging.masks import Mask
from neural_photo_editor.imaging.recoloring import recolor
from neural_photo_editor.imaging.value_range import photo_to_tensor
from neural_photo_editor.metrics.edit_quality import (
    color_patches,
    mean_change_inside,
    paint_difference,
    seam,
)
from neural_photo_editor.metrics.feature_distance import Features


@dataclass(frozen=True)
class ReplayedEdit:
    """One recipe's edit by one bundle.

    Attributes:
        photo, result: uint8, (H, W, 3).
        mask: bool, (H, W): which pixels were allowed to change.
        painted: the photo with its paint, as ``photo``, or None without paint.
        share: the diffusion step the edit started from, as a share of the schedule's, 0..1.
        measures: name -> value, see :func:`measure`.
    """

    photo: Photo
    result: Photo
    mask: Mask
    painted: Photo | None
    share: float
    measures: dict[str, float] = field(default_factory=dict)


class Judge:
    """Says how far pictures lie from real photos, by what a network sees in them.

    Args:
        features: (float (1, 3, side, side) in [-1, 1]) -> (1, D), see `segmenter_features`; the
            same for all bundles that are to be compared.
        side: of what it sees, in pixels.
        photos: real photos, uint8 (H, W, 3), at least two different ones.

    Raises:
        ValueError: the photos do not differ.
    """

    def __init__(self, features: Features, *, side: int, photos: Iterable[Photo]) -> None:
        self._features = features
        self._side = side
        real = torch.cat([self._look(photo) for photo in photos])
        spread, self._mean = torch.std_mean(real, dim=0, correction=0)
        if not (spread > 0.0).any():
            raise ValueError("all recipes show the same photo: record edits of others, too")
        # A feature that is nearly the same in all photos would outweigh all others.
        self._spread = spread.clamp_min(0.1 * float(spread.mean()))

    def distance(self, photo: Photo) -> float:
        """Return the root mean square of the features' distances from the real photos' means.

        Each in its standard deviations among the real photos, so about 1 for a real photo.
        """
        z = (self._look(photo) - self._mean) / self._spread
        return float(z.square().mean().sqrt())

    def _look(self, photo: Photo) -> Tensor:
        return self._features(resize(photo_to_tensor(photo), (self._side, self._side)))


class Replayer:
    """Makes the edits of recipes with one bundle.

    Args:
        pipeline: the bundle's; receipts are none of its business from now on.
    """

    def __init__(self, pipeline: EditPipeline) -> None:
        self.pipeline = pipeline
        self._prepared: PreparedEdit | None = None
        # The only place where the mask that the bundle chose for a region can be had exactly.
        pipeline.sign_receipts = self._keep

    def replay(self, recipe: Recipe, *, judge: Judge) -> ReplayedEdit | RequestError:
        """Make the first variation of an edit, as a PNG, and measure it."""
        changes = {"variations": 1, "receipt": True, "response": "json", "format": "png"}
        request = recipe.request.model_copy(update=changes)
        start_s = time.perf_counter()
        (answer,) = self.pipeline.run([request])
        seconds = time.perf_counter() - start_s
        if isinstance(answer, RequestError):
            return answer
        assert isinstance(answer, EditResult)
        assert self._prepared is not None
        mask = self._prepared.mask
        photo = decode_photo(request.photo, limits=self.pipeline.limits)
        result = decode_photo(answer.image, limits=RECEIPT_LIMITS)
        painted = _painted(request, photo.rgb, mask)
        measures = measure(photo, result, mask, painted=painted)
        measures["feature_distance"] = judge.distance(result.rgb)
        measures["network_calls"] = float(self.pipeline.planned_steps(request))
        measures["seconds"] = seconds
        share = answer.metadata.timestep / self.pipeline.schedule.num_timesteps
        return ReplayedEdit(photo.rgb, result.rgb, mask, painted, share, measures)

    def _keep(
        self, _request: EditRequest, _photo: DecodedPhoto, edit: PreparedEdit, result: EditResult
    ) -> EditResult:
        self._prepared = edit
        return result


def measure(
    photo: DecodedPhoto, result: DecodedPhoto, mask: Mask, *, painted: Photo | None
) -> dict[str, float]:
    """Return what can be told of one result; what does not apply is left out.

    * ``drift``: largest change of R, G, B or alpha outside the mask, 0..255;
    * ``changed_outside``: share of the pixels outside that changed, 0..1;
    * ``change_inside``: mean change inside, 0..255;
    * ``seam``: see `metrics.edit_quality.seam`;
    * ``paint_difference``: distance of the result's colors from the paint's, CIEDE2000;
    * ``color_patches``: patches of color that the paint has not, 0..255.
    """
    difference = difference_outside(photo, result, mask)
    measures = {
        "drift": float(difference.max()),
        "changed_outside": float((difference > 0).sum() / max(1, (~mask).sum())),
        "change_inside": mean_change_inside(photo.rgb, result.rgb, mask),
    }
    with suppress(ValueError):  # A mask up to the photo's edges has no border.
        measures["seam"] = seam(photo.rgb, result.rgb, mask)
    if painted is not None:
        measures["paint_difference"] = paint_difference(painted, result.rgb, mask)
        measures["color_patches"] = color_patches(painted, result.rgb, mask)
    return measures


def region_mismatch(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return 1 minus the intersection over union of two masks, bool (H, W), not both empty."""
    return 1.0 - float((first & second).sum() / (first | second).sum())


def _painted(request: EditRequest, photo: Photo, mask: Mask) -> Photo | None:
    if not has_paint(request):
        return None
    if request.strokes is not None:
        strokes = decode_strokes(request.strokes, size=(photo.shape[0], photo.shape[1]))
        return paint_over(photo, strokes, mask=mask)
    assert request.color is not None
    red, green, blue = bytes.fromhex(request.color[1:])
    return recolor(photo, mask, (red, green, blue))
