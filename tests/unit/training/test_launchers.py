import pytest

from neural_photo_editor.training.launchers import launched_processes, needs_torchrun

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_NTASKS": "16",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "8",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "train",
}


def test_the_launcher_says_how_many_processes_there_are() -> None:
    assert launched_processes({}) is None
    assert launched_processes(TORCHRUN) == ("torchrun", 3, 4)
    assert launched_processes(SRUN) == ("SLURM", 2, 8)
    # torchrun inside a SLURM job: the inner one started this process.
    assert launched_processes({**SRUN, **TORCHRUN}) == ("torchrun", 3, 4)


def test_a_shell_within_an_allocation_is_one_process() -> None:
    assert launched_processes({**SRUN, "SLURM_JOB_NAME": "interactive"}) is None


def test_one_task_needs_no_number_of_tasks_per_node() -> None:
    assert launched_processes({"SLURM_NTASKS": "1"}) == ("SLURM", 1, 1)


@pytest.mark.parametrize(
    ("without", "changed", "remedy"),
    [
        ("SLURM_STEP_ID", {}, "put srun before the command"),
        ("SLURM_NTASKS_PER_NODE", {}, "--ntasks-per-node"),
        ("", {"SLURM_NTASKS": "15"}, "same number of tasks on every node"),
    ],
)
def test_what_slurm_cannot_mean_is_refused(
    without: str, changed: dict[str, str], remedy: str
) -> None:
    environ = {name: value for name, value in SRUN.items() if name != without}
    with pytest.raises(ValueError, match=f"SLURM_NTASKS.*{remedy}"):
        launched_processes({**environ, **changed})


def test_a_pod_of_kubeflow_has_yet_to_start_torchrun() -> None:
    assert needs_torchrun({"PET_NNODES": "2"})
    assert not needs_torchrun({"PET_NNODES": "2", **TORCHRUN})
    assert not needs_torchrun(SRUN)
