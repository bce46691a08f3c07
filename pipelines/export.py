"""Make an artifact of a training run: ``python pipelines/export.py run_dir=DIR``."""

import json
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from neural_photo_editor.artifacts.export import export_artifact
from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.mirror import mirror_version
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.data.origin import read_origin
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.evaluation.evaluation_result import METRICS_NAME, EvaluationResult
from neural_photo_editor.evaluation.trained_network import TrainedNetwork, from_checkpoint

_log = get_logger(__name__)


def export(cfg: DictConfig) -> str:
    """Export the run's averaged weights and return the reference, such as ``ddpm_128@3``.

    Metrics and preview come from the run's evaluation, if it was of this checkpoint's weights.
    The reference and the artifact's digest also go to ``run_dir/artifact.json``.

    Raises:
        ValueError: the checkpoint or the training shards' manifest are absent, or that is not the
            manifest that the run was trained on.
    """
    run_dir, registry = Path(cfg.run_dir), str(cfg.registry)
    trained = from_checkpoint(run_dir / "checkpoints" / cfg.checkpoint)
    config_yaml = (run_dir / "config.yaml").read_text()
    config = OmegaConf.create(config_yaml)
    metrics, preview = _evaluation(run_dir, trained, cfg.checkpoint)
    folder = export_artifact(
        trained.network,
        name=cfg.name or config.name,
        metadata=trained.metadata,
        config_yaml=config_yaml,
        preview_png=preview,
        provenance=_provenance(run_dir, str(config.data.shards)),
        metrics=metrics,
        registry=registry,
    )
    artifact = load_artifact(folder)
    reference = f"{artifact.spec.name}@{folder.name}"
    record = {"reference": reference, "digest": artifact.digest}
    (run_dir / "artifact.json").write_text(json.dumps(record, indent=2) + "\n")
    mirror_version(registry, artifact.spec.name, int(folder.name))
    return reference


def _evaluation(
    run_dir: Path, trained: TrainedNetwork, checkpoint: str
) -> tuple[dict[str, float], bytes | None]:
    """Return the metrics and the preview of the run's evaluation if it was of these weights.

    The metrics of two artifacts are compared, so those with test-time flip do not count either.
    """
    folder = run_dir / "evaluation"
    if not (folder / METRICS_NAME).is_file():
        return {}, None
    evaluation = EvaluationResult.load(folder)
    if evaluation.network_sha256 != trained.sha256():
        reason = f"is of other weights than {checkpoint} holds now"
    elif evaluation.settings.get("test_time_flip"):
        reason = "is of the network with test-time flip, not of the network alone"
    else:
        return evaluation.metrics, (folder / evaluation.pictures[0]).read_bytes()
    _log.warning(
        "the artifact gets no metrics and no preview, for %s %s; to have them, run "
        "pipelines/evaluate.py run_dir=%s checkpoint=%s and export again",
        folder / METRICS_NAME,
        reason,
        run_dir,
        checkpoint,
    )
    return {}, None


def _provenance(run_dir: Path, shards: str) -> dict[str, Any]:
    tracker = run_dir / "tracker.json"
    run_id = json.loads(tracker.read_text())["run_id"] if tracker.is_file() else None
    return {**read_origin(run_dir, ShardManifest.load(shards)), "tracker_run_id": run_id}


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        export(cfg)
    except (ValueError, OSError) as error:
        raise SystemExit(f"export: {error}") from error


if __name__ == "__main__":
    main()
