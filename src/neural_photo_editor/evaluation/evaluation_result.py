"""What an evaluation leaves behind: ``metrics.json`` and pictures beside it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class EvaluationResult:
    """Measurements of one network.

    Attributes:
        kind: "denoiser", "segmenter" or "upscaler".
        num_samples: held-out samples measured.
        metrics: name -> value; a name may have parts divided by "/".
        pictures: names of the PNG files beside ``metrics.json``, the most telling one first.
        weights: names of networks measured with whose weights are from elsewhere -> SHA-256 of
            their files.
        network_sha256: of the measured network, see `TrainedNetwork.sha256`; "" of edits.
        settings: name -> value of what the metrics depend on beside the network.
    """

    kind: str
    num_samples: int
    metrics: dict[str, float]
    pictures: list[str]
    weights: dict[str, str] = field(default_factory=dict)
    network_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write ``metrics.json``; readers see the old or the new file, whole."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS_NAME
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")
        temporary.replace(path)
        return path

    @staticmethod
    def load(folder: Path) -> "EvaluationResult":
        """Read ``metrics.json`` of a folder.

        Raises:
            ValueError: there is none.
        """
        path = folder / METRICS_NAME
        if not path.is_file():
            raise ValueError(f"there is no {path}: run pipelines/evaluate.py first")
        return EvaluationResult(**json.loads(path.read_text()))
