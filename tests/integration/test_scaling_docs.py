"""The commands of docs/scaling.md divide their batches among the processes that they start."""

import shlex

import pytest
from hydra import compose, initialize_config_dir
from torch.distributed.run import config_from_args, get_args_parser

from neural_photo_editor.common.batch_split import split_batch
from tests.integration.documented_commands import ROOT, commands_in_markdown

COMMANDS = list(commands_in_markdown((ROOT / "docs" / "scaling.md").read_text()))
SCRIPT = "pipelines/train.py"


@pytest.mark.parametrize("command", [one for one in COMMANDS if "torchrun" in one])
def test_a_batch_divides_among_the_processes(command: str) -> None:
    words = shlex.split(command)
    first = next(n for n, word in enumerate(words) if word.endswith("torchrun"))
    options = get_args_parser().parse_args(words[first + 1 :])
    launch, _, _ = config_from_args(options)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", options.training_script_args)
    split_batch(cfg.data.batch_size, processes=launch.min_nodes * launch.nproc_per_node)


def test_the_page_shows_every_launcher() -> None:
    for part in (
        f"python {SCRIPT} experiment",
        "torchrun --nnodes 2",
        "srun",
        "hydra/launcher=slurm",
    ):
        assert any(part in command for command in COMMANDS), part
