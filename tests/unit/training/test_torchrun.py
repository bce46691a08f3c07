"""The launcher's exit code is that of the processes, through the real torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from neural_photo_editor.training.torchrun import _exit_code

MODULE = "neural_photo_editor.training.torchrun"
ENDS = {  # What a process does, the exit code that is passed on, and how often it is started.
    "wrong configuration": ("sys.exit(78)", 78, 1),
    "another host stops": ("sys.exit(75)", 75, 2),  # Its successor is waited for.
    # As a scheduler does.
    "asks to stop": ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(99)", 75, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code", "starts"), ENDS.values(), ids=ENDS)
def test_the_exit_code_is_that_of_the_processes(
    end: str, code: int, starts: int, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, signal, sys, time\nopen(sys.argv[1], 'a').write('started\\n')\n{end}\n"
    )
    command = [sys.executable, "-m", MODULE, "--standalone", "--max-restarts=1"]
    command += ["--nproc-per-node=1", str(script), str(tmp_path / "starts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "starts").read_text().count("started") == starts


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([1, 78], 78), ([-15, 65], 65), ([-9, 75], 137), ([75, 75], 75)],
    ids=str,
)
def test_of_processes_that_end_together_the_final_code_or_the_first_one_counts(
    codes: list[int], expected: int
) -> None:
    failures = {
        rank: ProcessFailure(local_rank=rank, pid=rank, exitcode=code, error_file="")
        for rank, code in enumerate(codes)
    }
    for failure in failures.values():
        failure.timestamp = 0
    assert _exit_code(ChildFailedError("train.py", failures)) == expected
