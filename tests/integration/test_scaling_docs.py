"""The commands of docs/scaling.md and the TrainJob are parsed by what would run them."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.distributed.run import config_from_args, get_args_parser

from neural_photo_editor.common.batch_split import split_batch
from neural_photo_editor.training.launchers import needs_torchrun

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
TRAIN_JOB = ROOT / "k8s" / "training" / "ddpm-128.yaml"
SCRIPT = "pipelines/train.py"


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    indented = re.findall(r"^    (srun .*)$", PAGE, flags=re.MULTILINE)
    lines = "\n".join([*blocks, *indented]).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def _compose(overrides: list[str]) -> int:
    """Compose the configuration and return its global batch."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            "train", [word for word in overrides if word != "-m"], return_hydra_config=True
        )
    assert not [name for name in OmegaConf.missing_keys(cfg) if not name.startswith("hydra.")]
    batch_size: int = cfg.data.batch_size
    return batch_size


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_commands_parse_and_their_batch_divides_among_the_processes(command: list[str]) -> None:
    place = command.index(SCRIPT)
    batch_size = _compose(command[place + 1 :])
    if any("torchrun" in word for word in command[:place]):
        first = next(n for n, word in enumerate(command) if word.endswith("torchrun"))
        arguments = get_args_parser().parse_args([*command[first + 1 : place], SCRIPT])
        launch, _, _ = config_from_args(arguments)
        split_batch(batch_size, processes=launch.min_nodes * launch.nproc_per_node)


def test_the_page_shows_every_launcher() -> None:
    texts = [" ".join(command) for command in _commands()]
    for part in (
        f"python {SCRIPT} experiment",
        "torchrun --nnodes 2",
        "srun",
        "hydra/launcher=slurm",
    ):
        assert any(part in text for text in texts), part


def test_the_train_job_runs_the_command() -> None:
    job = yaml.safe_load(TRAIN_JOB.read_text())
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["python", SCRIPT]
    assert str(TRAIN_JOB.relative_to(ROOT)) in PAGE
    processes = trainer["numNodes"] * trainer["numProcPerNode"]
    split_batch(_compose(trainer["args"]), processes=processes)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == trainer["numProcPerNode"]
    assert needs_torchrun({"PET_NNODES": str(trainer["numNodes"])})
