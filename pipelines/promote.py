"""Judge a bundle beside the current one: ``python pipelines/promote.py candidate=REFERENCE``."""

import shutil
import sys
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from neural_photo_editor.artifacts.registry import list_aliases, list_versions, resolve
from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.replay import archive_of, unpacked_bundle
from neural_photo_editor.evaluation.gate_recipes import default_recipes
from neural_photo_editor.evaluation.gate_rules import GateRules
from neural_photo_editor.evaluation.promotion import GateResult, run_gate
from neural_photo_editor.evaluation.promotion_report import write_gate_report
from neural_photo_editor.evaluation.recipes import RecipeSet, load_recipes, write_recipes

EXIT_REFUSED = 3
_log = get_logger(__name__)


def run(cfg: DictConfig) -> GateResult:
    """Load the recipes and the bundles, run the gate and write its page.

    Raises:
        ValueError: a bundle or recipe is missing or damaged, or a setting is wrong.
        OSError: the registry cannot be reached, or out_dir cannot be written.
    """
    try:
        rules = GateRules.model_validate(OmegaConf.to_container(cfg.rules))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("rules", *first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from error
    recipes, out_dir = _recipes(cfg), Path(cfg.out_dir)
    path = _located(cfg.candidate, cfg)
    archive = archive_of(path)
    digest = None if archive is None else sha256_file(archive)
    candidate = _pipeline(path, cfg)
    current = None if _is_first(cfg) else _pipeline(_located(cfg.current, cfg), cfg)
    result = run_gate(
        candidate,
        current,
        recipes,
        rules=rules,
        out_dir=out_dir,
        candidate_archive_sha256=digest,
    )
    page = write_gate_report(result, out_dir)
    for reason in result.reasons:
        _log.warning("refused: %s", reason)
    _log.info("the candidate %s; see %s", "passes" if result.passed else "is refused", page)
    return result


def _recipes(cfg: DictConfig) -> RecipeSet:
    if cfg.recipes is not None:
        return load_recipes(Path(cfg.recipes), digest=cfg.recipes_digest)
    folder = Path(cfg.out_dir) / "drawn_recipes"
    shutil.rmtree(folder, ignore_errors=True)
    drawn = default_recipes(
        series=cfg.portrait_seed, resolution=cfg.portrait_resolution, portraits=cfg.portraits
    )
    write_recipes(folder, drawn)
    return load_recipes(folder, digest=cfg.recipes_digest)


def _is_first(cfg: DictConfig) -> bool:
    """Tell whether there is nothing to compare with: no current bundle, or no such alias yet."""
    if cfg.current is None:
        return True
    name, at, alias = str(cfg.current).partition("@")
    if not at or Path(cfg.current).exists() or not list_versions(cfg.registry, name):
        return False
    first = not alias.isdecimal() and alias not in list_aliases(cfg.registry, name)
    if first:
        _log.info("there is no %s yet: the candidate is judged by the bounds alone", cfg.current)
    return first


def _located(bundle: str, cfg: DictConfig) -> Path:
    path = Path(bundle)
    return resolve(cfg.registry, bundle) if "@" in bundle and not path.exists() else path


def _pipeline(path: Path, cfg: DictConfig) -> EditPipeline:
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    with unpacked_bundle(path) as folder:
        device = auto if cfg.device == "auto" else cfg.device
        return EditPipeline.from_bundle(folder, device=device)


@hydra.main(version_base="1.3", config_path="../conf", config_name="promote")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        result = run(cfg)
    except (ValueError, OSError) as error:
        raise SystemExit(f"promote: {error}") from error
    if not result.passed:
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
