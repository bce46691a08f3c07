"""What started this process, and how many processes it started: torchrun, SLURM, or nothing."""

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple, NoReturn


class Launch(NamedTuple):
    """The processes of a run as the launcher's environment describes them."""

    launcher: str
    num_nodes: int
    devices: int
    """Processes per node, one per device."""


def launched_processes(environ: Mapping[str, str] | None = None) -> Launch | None:
    """Return what torchrun or srun started, None for a process that nothing launched.

    Kubeflow Trainer and submitit are among them: the one runs torchrun, the other srun.

    Raises:
        ValueError: SLURM's variables contradict each other or this is not a step of srun.
    """
    environ = os.environ if environ is None else environ
    if "TORCHELASTIC_RUN_ID" in environ:
        nodes, devices = int(environ["GROUP_WORLD_SIZE"]), int(environ["LOCAL_WORLD_SIZE"])
        return Launch("torchrun", nodes, devices)
    # Lightning's rule: a shell inside an allocation starts its processes itself.
    if "SLURM_NTASKS" in environ and environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return _slurm_processes(environ)
    return None


def _slurm_processes(environ: Mapping[str, str]) -> Launch:
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ.get("SLURM_NNODES", "1"))
    if tasks > 1 and "SLURM_STEP_ID" not in environ:
        raise ValueError(
            f"SLURM_NTASKS is {tasks}, but this is the batch script itself, not one of its tasks: "
            "put srun before the command"
        )
    per_node = environ.get("SLURM_NTASKS_PER_NODE")
    if tasks > 1 and per_node is None:
        raise ValueError(
            f"SLURM_NTASKS is {tasks} without SLURM_NTASKS_PER_NODE: ask for tasks with "
            "--ntasks-per-node, one per GPU"
        )
    devices = tasks if per_node is None else int(per_node)
    if nodes * devices != tasks:
        raise ValueError(
            f"SLURM_NNODES {nodes} times SLURM_NTASKS_PER_NODE {devices} is not SLURM_NTASKS "
            f"{tasks}: ask for the same number of tasks on every node"
        )
    return Launch("SLURM", nodes, devices)


def needs_torchrun(environ: Mapping[str, str] | None = None) -> bool:
    """Whether Kubeflow Trainer described the processes, which torchrun has yet to start.

    Its pods get torchrun's arguments as variables (PET_NNODES and others). Without torchrun each
    pod would train for itself.
    """
    environ = os.environ if environ is None else environ
    return "PET_NNODES" in environ and "TORCHELASTIC_RUN_ID" not in environ


def become_torchrun() -> NoReturn:
    """Replace this process by torchrun with the same command; its PET_* variables stay."""
    arguments = [sys.executable, "-m", "neural_photo_editor.training.torchrun", *sys.argv]
    os.execv(sys.executable, arguments)  # noqa: S606 - the list is this very command
