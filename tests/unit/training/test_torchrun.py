"""The launcher's exit code is that of the processes, through the real torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = "neural_photo_editor.training.torchrun"
SCRIPTS = {
    78: "raise SystemExit(78)",
    # The process asks the launcher to stop, as a scheduler does.
    75: "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(99)",
}


@pytest.mark.slow
@pytest.mark.parametrize("code", SCRIPTS)
def test_the_exit_code_is_that_of_the_processes(code: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPTS[code])
    command = [sys.executable, "-m", MODULE, "--standalone", "--nproc-per-node=1", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
