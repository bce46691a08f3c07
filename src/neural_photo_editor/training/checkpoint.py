"""Lightning checkpoints: replaced whole when written, read without unpickling code.

Keys this project adds to Lightning's: ``ema`` (decay, num_updates, state_dict of the network),
``network`` (class name and constructor arguments) and ``artifact_metadata``.
"""

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor, nn

from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)

NETWORK_PREFIX = "network."


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint and renames, so that a kill leaves the old one or the new one.

    Lightning stages in the system's folder for temporary files. Where that is another file
    system, the last act is a copy onto the checkpoint, and a kill during it leaves neither. There
    each kill also leaves a whole checkpoint behind; here the next save replaces what is left.

    A save that fails, because the disk is full, for instance, is a warning: the training goes on,
    the checkpoint before stays, and the next save tries again.

    Attributes:
        failed: path -> why its last save failed.
    """

    def __init__(self) -> None:
        self.failed: dict[Path, Exception] = {}

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        """Write the checkpoint, or warn.

        Raises:
            OSError: it is not allowed to write there, which waiting does not change.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch.save hides some OSErrors in the latter.
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
                raise
            partial.unlink(missing_ok=True)  # It takes space that the next save needs.
            self.failed[path] = error
            _log.warning(
                "%s was not written (%s): the one before stays and training goes on; free space in "
                "%s before the next save",
                path.name,
                str(error).partition("\n")[0],
                path.parent,
            )
        else:
            self.failed.pop(path, None)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())  # Without it a crash of the machine may leave an empty file.


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint can be read to its end and every part has its checksum."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return False
        read_checkpoint(checkpoint)
    except Exception as error:  # noqa: BLE001 -- whatever damaged bytes lead their readers to
        _log.warning("%s cannot be read: %s", checkpoint, error)
        return False
    return True


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; the tensors' bytes are mapped, not copied.

    Raises:
        ValueError: the file is absent.
    """
    if not checkpoint.is_file():
        raise ValueError(
            f"there is no checkpoint at {checkpoint}; train first, or correct the path"
        )
    content: dict[str, Any] = torch.load(
        checkpoint, map_location="cpu", weights_only=True, mmap=True
    )
    return content


def network_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the network's averaged weights, or the raw ones of a run without averaging."""
    if "ema" in content:
        averaged: dict[str, Tensor] = content["ema"]["state_dict"]
        return averaged
    return {
        name.removeprefix(NETWORK_PREFIX): value
        for name, value in content["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }


def load_ema_weights(module: nn.Module, checkpoint: Path) -> None:
    """Load averaged weights (raw ones if the run kept no average) into ``module.network``.

    Args:
        module: a module of this package, or anything with a ``network`` of the same shape.
        checkpoint: a ``.ckpt`` file of a run.

    Raises:
        ValueError: the file is absent.
        RuntimeError: the weights are not those of this network.
    """
    network = module.network
    assert isinstance(network, nn.Module)
    network.load_state_dict(network_weights(read_checkpoint(checkpoint)))
