"""The registry's versions and aliases shown in Weights & Biases, as far as it can be reached.

The registry is the original and W&B a picture of it: nothing is ever read from there, and whatever
goes wrong there is a warning. In W&B a version also has the alias ``registry-N``, which is how it
is found when an alias moves.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.bundle_spec import BUNDLE_NAME
from neural_photo_editor.artifacts.lineage import LINEAGE_NAME
from neural_photo_editor.artifacts.spec import SPEC_NAME
from neural_photo_editor.common.log import get_logger

PROJECT = "neural-photo-editor"
"""Of W&B, unless WANDB_PROJECT names another: that of the trainings."""

TIMEOUT_S = 30
UPLOAD_TIMEOUT_S = 600
_log = get_logger(__name__)


def mirror_version(registry: Path | str, name: str, version: int) -> None:
    """Log a version as a W&B Artifact with the aliases it has in the registry.

    Nothing happens without a key in WANDB_API_KEY, or with WANDB_MODE offline or disabled. A W&B
    that does not answer costs a warning and `TIMEOUT_S` seconds.
    """
    _attempt(f"{name}@{version}", lambda wandb: _log_version(wandb, registry, name, version))


def mirror_alias(name: str, alias: str, version: int) -> None:
    """Move an alias in W&B to the version it names in the registry; see :func:`mirror_version`."""
    _attempt(f"{name}@{alias}", lambda wandb: _move_alias(wandb, name, alias, version))


def _attempt(what: str, action: Callable[[Any], None]) -> None:
    mode = os.environ.get("WANDB_MODE") or "online"
    if not os.environ.get("WANDB_API_KEY") or mode != "online":
        return
    try:
        import wandb

        action(wandb)
    except ImportError:
        _log.warning("wandb is not installed: %s is in the registry alone", what)
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way, never the registry
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        _log.warning("W&B did not take %s, the registry has it: %s", what, reason)


def _log_version(wandb: Any, registry: Path | str, name: str, version: int) -> None:
    folder = registries.resolve(registry, f"{name}@{version}")
    aliases = registries.list_aliases(registry, name)
    artifact = _artifact(wandb, folder, name=name)
    with tempfile.TemporaryDirectory(prefix="npe-wandb-") as scratch:
        run = wandb.init(
            project=_project(),
            job_type="registry",
            dir=scratch,
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=TIMEOUT_S,
                login_timeout=TIMEOUT_S,
                finish_timeout=TIMEOUT_S,
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        try:
            named = [alias for alias, target in aliases.items() if target == version]
            run.log_artifact(artifact, aliases=[*named, f"registry-{version}"])
            artifact.wait(timeout=UPLOAD_TIMEOUT_S)
        finally:
            run.finish()


def _artifact(wandb: Any, folder: Path, *, name: str) -> Any:
    """Return a version's files as a W&B Artifact; descriptions are its metadata, too."""
    described = {
        file: (folder / file).read_text()
        for file in (BUNDLE_NAME, LINEAGE_NAME, SPEC_NAME)
        if (folder / file).is_file()
    }
    kind = "bundle" if BUNDLE_NAME in described else "model"
    artifact = wandb.Artifact(name, type=kind, metadata={"version": folder.name, **described})
    artifact.add_dir(str(folder))
    return artifact


def _move_alias(wandb: Any, name: str, alias: str, version: int) -> None:
    api = wandb.Api(timeout=TIMEOUT_S)
    artifact = api.artifact(f"{_project()}/{name}:registry-{version}")
    if alias not in artifact.aliases:
        artifact.aliases.append(alias)
        artifact.save()


def _project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT
