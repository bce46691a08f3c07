"""Processes leave their group while the interpreter is still whole."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import atexit, sys
import torch
from torch import distributed
from neural_photo_editor.training.strategies import leave_group_at_exit

# Handlers run last one first: this one comes after what the project registers.
atexit.register(lambda: print("in the group at exit:", distributed.is_initialized()))
if sys.argv[2] == "leaving":
    leave_group_at_exit()
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
distributed.all_reduce(torch.ones(1))
"""


def test_the_group_is_left_before_the_interpreter_ends(tmp_path: Path) -> None:
    assert _run(tmp_path / "a", "leaving") == "in the group at exit: False"
    assert _run(tmp_path / "b", "staying") == "in the group at exit: True"


def _run(store: Path, how: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(store), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()
