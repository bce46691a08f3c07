"""The promotion gate: recorded edits made by candidate and current bundle, compared and judged."""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from neural_photo_editor.api.codec import decode_photo
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.recipe import Recipe
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.promotion import GATE_NAME
from neural_photo_editor.common.fingerprint import sha256_json
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_progress import format_duration
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.planning import has_paint
from neural_photo_editor.evaluation.gate_pictures import save_comparison
from neural_photo_editor.evaluation.gate_replay import (
    Judge,
    ReplayedEdit,
    Replayer,
    region_mismatch,
)
from neural_photo_editor.evaluation.gate_rules import GateCheck, GateRules, Pair, judge_pairs
from neural_photo_editor.evaluation.recipes import RecipeSet
from neural_photo_editor.metrics.feature_distance import Features, segmenter_features
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

SCHEMA_VERSION = 1
PICTURES = "pictures"
PROGRESS_EVERY_S = 10.0

_log = get_logger(__name__)


@dataclass(frozen=True)
class GateResult:
    """What ``gate.json`` says.

    Attributes:
        candidate_digest, current_digest: of the bundles; the latter None in a first promotion.
        candidate_archive_sha256: of the candidate's archive, with its handler; None of a folder.
        recipes_digest: of the set of recipes.
        checks: all that was judged.
        pairs: both bundles' measures of every recipe.
        rules: what they were judged by.
        created: when, UTC, such as 2026-01-31T12:00:00Z.
    """

    candidate_digest: str
    current_digest: str | None
    candidate_archive_sha256: str | None
    recipes_digest: str
    checks: tuple[GateCheck, ...]
    pairs: tuple[Pair, ...]
    rules: GateRules
    created: str

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def rules_digest(self) -> str:
        """The SHA-256 of the rules' canonical JSON."""
        return sha256_json(self.rules.model_dump(mode="json"))

    @property
    def reasons(self) -> list[str]:
        """Say which checks failed, a line each."""
        return [str(check) for check in self.checks if not check.passed]

    def to_document(self) -> dict[str, Any]:
        """Return the content of ``gate.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "candidate_digest": self.candidate_digest,
            "current_digest": self.current_digest,
            "candidate_archive_sha256": self.candidate_archive_sha256,
            "recipes_digest": self.recipes_digest,
            "rules_digest": self.rules_digest,
            "reasons": self.reasons,
            "checks": [check.to_document() for check in self.checks],
            "errors": {pair.name: dict(pair.errors) for pair in self.pairs if pair.errors},
            "rules": self.rules.model_dump(mode="json"),
            "created": self.created,
        }


def run_gate(
    candidate: EditPipeline,
    current: EditPipeline | None,
    recipes: RecipeSet,
    *,
    rules: GateRules,
    out_dir: Path,
    candidate_archive_sha256: str | None = None,
    features: Features | None = None,
) -> GateResult:
    """Make all edits with both bundles, judge them and write ``gate.json`` and the pictures.

    Both bundles make an edit right after one another, in turn the one or the other first, so that
    a machine that is busy for a while slows both. Pictures of recipe NAME are in
    ``pictures/NAME.png``: photo, painted, current, candidate, difference.

    Args:
        candidate: the bundle that is to be promoted.
        current: the bundle that it is to replace, or None: only the rules' bounds count.
        recipes: the edits.
        rules: what is a regression.
        out_dir: receives the files; ``gate.json`` comes last, an older one is gone before.
        candidate_archive_sha256: of the archive that the candidate was unpacked from, if any.
        features: what pictures are compared with real photos by; those of the current bundle's
            segmenter when absent, without one the candidate's.

    Raises:
        ValueError: the recipes do not show different photos that can be read.
    """
    (out_dir / PICTURES).mkdir(parents=True, exist_ok=True)
    (out_dir / GATE_NAME).unlink(missing_ok=True)
    for old in (out_dir / PICTURES).glob("*.png"):
        old.unlink()
    judge = _judge(current or candidate, recipes, features)
    sides = {"candidate": Replayer(candidate)}
    if current is not None:
        sides["current"] = Replayer(current)
    _warm_up(sides.values(), next(iter(recipes.recipes.values())), judge)
    pairs = []
    log_progress = _progress(len(recipes.recipes))
    for number, (name, recipe) in enumerate(recipes.recipes.items(), 1):
        order = list(sides) if number % 2 else list(sides)[::-1]
        edits = {side: sides[side].replay(recipe, judge=judge) for side in order}
        pairs.append(_pair(name, recipe, edits, rules))
        save_comparison(edits, out_dir / PICTURES / f"{name}.png")
        log_progress(number)
    result = GateResult(
        candidate_digest=candidate.bundle_digest,
        current_digest=None if current is None else current.bundle_digest,
        candidate_archive_sha256=candidate_archive_sha256,
        recipes_digest=recipes.digest,
        checks=tuple(judge_pairs(pairs, rules, first=current is None)),
        pairs=tuple(pairs),
        rules=rules,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    temporary = out_dir / f".{GATE_NAME}"
    temporary.write_text(json.dumps(result.to_document(), indent=1) + "\n")
    temporary.replace(out_dir / GATE_NAME)
    return result


def region_of(request: EditRequest) -> str:
    """Say what an edit is of: its first region, ``strokes`` or ``mask``; or that it is a fill."""
    if request.regions:
        marked = request.regions[0]
    else:
        marked = "mask" if request.mask is not None else "strokes"
    return marked if has_paint(request) else f"{marked} fill"


def _judge(pipeline: EditPipeline, recipes: RecipeSet, features: Features | None) -> Judge:
    """Return a judge by the recipes' own photos; one that is refused is so again when replayed."""
    if features is None:
        if not isinstance(pipeline.segmenter, SegmentationUNet):
            raise ValueError("the segmenter is no SegmentationUNet: give features")
        of_segmenter = segmenter_features(pipeline.segmenter)

        def features(images: Tensor) -> Tensor:
            return of_segmenter(images.to(pipeline.device))

    photos = []
    for data in dict.fromkeys(recipe.request.photo for recipe in recipes.recipes.values()):
        with suppress(RequestError):
            photos.append(decode_photo(data, limits=pipeline.limits).rgb)
    if not photos:
        raise ValueError("no photo of the recipes can be read: record edits of others")
    return Judge(features, side=pipeline.segmenter_resolution, photos=photos)


def _progress(total: int) -> Callable[[int], None]:
    """Return what logs rate and time left, every PROGRESS_EVERY_S and at the end."""
    start_s = last_line_s = time.monotonic()

    def log(done: int) -> None:
        nonlocal last_line_s
        now_s = time.monotonic()
        if now_s - last_line_s < PROGRESS_EVERY_S and done < total:
            return
        last_line_s = now_s
        rate = done / max(now_s - start_s, 1e-9)
        left = format_duration((total - done) / rate)
        _log.info("%d of %d recipes, %.3g recipes/s, %s left", done, total, rate, left)

    return log


def _warm_up(replayers: Iterable[Replayer], recipe: Recipe, judge: Judge) -> None:
    """The first edit of a process takes longer, and would count for the one that comes first."""
    for replayer in replayers:
        replayer.replay(recipe, judge=judge)


def _pair(
    name: str, recipe: Recipe, edits: dict[str, ReplayedEdit | RequestError], rules: GateRules
) -> Pair:
    made = {side: edit for side, edit in edits.items() if isinstance(edit, ReplayedEdit)}
    measures = {side: dict(edit.measures) for side, edit in made.items()}
    if recipe.request.regions and {"candidate", "current"} <= made.keys():
        masks = made["candidate"].mask, made["current"].mask
        measures["candidate"]["region_mismatch"] = region_mismatch(*masks)
    # Where both were made, the current bundle says from where in the noise: it is what is known.
    known = made.get("current") or made.get("candidate")
    return Pair(
        name=name,
        region=region_of(recipe.request),
        bucket="refused" if known is None else rules.bucket(known.share),
        candidate=measures.get("candidate"),
        current=measures.get("current"),
        errors={side: str(edit) for side, edit in edits.items() if isinstance(edit, RequestError)},
    )
