"""What two distances of drawn images must share to be compared, and the file that says it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULT_NAME = "sample_quality.json"
PROTOCOL_VERSION = 1
"""Counts up whenever the same settings would give other numbers."""


@dataclass(frozen=True)
class SampleQuality:
    """Distances of a denoiser's images from photos, and how they were measured.

    Attributes:
        protocol: everything that decides the numbers but for the denoiser: results with another
            one are not compared. See `protocol`.
        model: which denoiser, its weights' digest and its noise schedule.
        metrics: "frechet_distance", "kernel_distance" and its standard error.
        pictures: names of the PNG files beside.
    """

    protocol: dict[str, Any]
    model: dict[str, Any]
    metrics: dict[str, float]
    pictures: list[str]

    def save(self, folder: Path) -> Path:
        """Write ``sample_quality.json``; readers see the old or the new file, whole."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / RESULT_NAME
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)
        return path

    @staticmethod
    def load(path: Path) -> "SampleQuality":
        """Read a result file, or the one in a folder.

        Raises:
            ValueError: there is none, or it is no such file.
        """
        path = path / RESULT_NAME if path.is_dir() else path
        if not path.is_file():
            raise ValueError(f"there is no {path}: run pipelines/evaluate_samples.py first")
        try:
            return SampleQuality(**json.loads(path.read_bytes()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is no result of evaluate_samples: {error}") from error


def compare(results: Mapping[str, SampleQuality]) -> str:
    """Return a table of results, one line each, the smallest Frechet distance first.

    Args:
        results: name -> result, at least two.

    Raises:
        ValueError: fewer than two, or two protocols; names each field that differs, both values.
    """
    if len(results) < 2:
        raise ValueError("there is one result: name two or more to compare")
    (first, reference), *others = results.items()
    for name, other in others:
        differences = list(_differences(reference.protocol, other.protocol))
        if differences:
            raise ValueError(
                f"{first} and {name} were measured by two protocols and do not compare: "
                f"{'; '.join(differences)}. Measure one of them again with the other's settings"
            )
    ranked = sorted(results, key=lambda name: results[name].metrics["frechet_distance"])
    rows = [f"{'FID':>9} {'KID x 1000':>18}  result"]
    for name in ranked:
        metrics = results[name].metrics
        kernel = 1e3 * metrics["kernel_distance"]
        error = 1e3 * metrics["kernel_distance_standard_error"]
        rows.append(f"{metrics['frechet_distance']:9.3f} {kernel:9.3f} +- {error:5.3f}  {name}")
    return "\n".join(rows)


def check_counts(
    *, num_samples: int, num_references: int, dimension: int, min_samples: int, kid_block: int
) -> None:
    """Refuse counts whose distances would say little.

    Raises:
        ValueError: names the count, the least there may be, and the remedy.
    """
    if kid_block < 2 or min(num_samples, num_references) < 2 * kid_block:
        raise ValueError(
            f"kid_block is {kid_block}; choose from 2 to half of num_samples = "
            f"{num_samples} and half of the {num_references} references"
        )
    for what, count, remedy in (
        ("samples", num_samples, "raise num_samples"),
        ("references", num_references, "take references.split=train, or prepare more photos"),
    ):
        if count <= dimension:
            raise ValueError(
                f"{count} {what} of {dimension} features have no full covariance: a Frechet "
                f"distance needs more than {dimension}; {remedy}, or compare by a network of fewer "
                "features (features.segmenter)"
            )
        if count < min_samples:
            raise ValueError(
                f"{count} {what} are fewer than min_samples = {min_samples}: the distance would be "
                f"too large by chance; {remedy}, or lower min_samples for a quick look"
            )


def _differences(ours: Any, theirs: Any, path: Sequence[str] = ()) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(name), theirs.get(name), (*path, name))
    elif ours != theirs:
        yield f"{'.'.join(path)} is {ours!r} and {theirs!r}"
