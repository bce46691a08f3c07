"""The registry's versions and aliases shown in Weights & Biases, as far as it can be reached.

The registry is the original and W&B a picture of it: nothing is ever read from there, and whatever
goes wrong there is a warning. In W&B a version also has the alias ``registry-N``, which is how it
is found when an alias moves.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

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
    that does not answer costs a warning and a few times `TIMEOUT_S` seconds.
    """
    limit_s = UPLOAD_TIMEOUT_S + 3 * TIMEOUT_S
    _attempt(f"{name}@{version}", "version", str(registry), name, str(version), limit_s=limit_s)


def mirror_alias(name: str, alias: str, version: int) -> None:
    """Move an alias in W&B to the version it names in the registry; see :func:`mirror_version`."""
    _attempt(f"{name}@{alias}", "alias", name, alias, str(version), limit_s=3 * TIMEOUT_S)


def _attempt(what: str, *arguments: str, limit_s: float) -> None:
    """Do it in a process of its own: W&B's client may wait for its service without an end."""
    mode = os.environ.get("WANDB_MODE") or "online"
    if not os.environ.get("WANDB_API_KEY") or mode != "online":
        return
    if not _has_wandb():
        _log.warning("wandb is not installed: %s is in the registry alone", what)
        return
    command = [
        sys.executable,
        "-m",
        "neural_photo_editor.artifacts.mirror",
        *arguments,
        str(TIMEOUT_S),
    ]
    # A file, for W&B's service may hold a pipe open longer than the process lives.
    with tempfile.TemporaryFile("w+") as said:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                timeout=limit_s,
                check=False,
            ).returncode
            said.seek(0)
            reason = (said.read().strip().splitlines() or [f"exit status {status}"])[-1]
        except subprocess.TimeoutExpired:
            status, reason = 1, f"it took more than {limit_s:.0f} s"
    if status != 0:
        _log.warning("W&B did not take %s, the registry has it: %s", what, reason)


def _has_wandb() -> bool:
    try:
        return find_spec("wandb") is not None
    except ValueError:  # Its place in sys.modules is taken.
        return False


def main(arguments: Sequence[str]) -> NoReturn:
    """Carry out ``version REGISTRY NAME VERSION S`` or ``alias NAME ALIAS VERSION S``."""
    import wandb

    action, *names, version, timeout_s = arguments
    status = 0
    try:
        if action == "version":
            registry, name = names
            _log_version(wandb, registry, name, int(version), timeout_s=float(timeout_s))
        else:
            name, alias = names
            _move_alias(wandb, name, alias, int(version), timeout_s=float(timeout_s))
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way, never the registry
        sys.stderr.write(str(error).strip().partition("\n")[0] or type(error).__name__)
        status = 1
    sys.stderr.flush()
    # Without waiting for W&B's service at exit: it ends with this process, and may hang before.
    os._exit(status)


def _log_version(
    wandb: Any, registry: Path | str, name: str, version: int, *, timeout_s: float
) -> None:
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
                init_timeout=timeout_s,
                login_timeout=timeout_s,
                finish_timeout=timeout_s,
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


def _move_alias(wandb: Any, name: str, alias: str, version: int, *, timeout_s: float) -> None:
    api = wandb.Api(timeout=int(timeout_s))
    artifact = api.artifact(f"{_project()}/{name}:registry-{version}")
    if alias not in artifact.aliases:
        artifact.aliases.append(alias)
        artifact.save()


def _project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT


if __name__ == "__main__":
    main(sys.argv[1:])
