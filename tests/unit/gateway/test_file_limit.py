"""The system's limit on open files is raised to what the settings allow, or the start refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from serve.gateway.settings import GatewaySettings

RAISE = """
import resource, sys
from serve.gateway.server import raise_file_limit
from serve.gateway.settings import GatewaySettings
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[2])))
raise_file_limit(GatewaySettings(max_connections=int(sys.argv[1]), max_in_flight=64))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("connections", "enough"), [(100, 484), (500, 884)])
def test_the_limit_is_raised_to_what_is_needed(connections: int, enough: int) -> None:
    done = child("-c", RAISE, str(connections), "1024")
    assert (done.returncode, int(done.stdout)) == (0, enough), done.stderr


def test_a_limit_that_is_enough_stays() -> None:
    done = child("-c", RAISE.replace("(256,", "(1000,"), "500", "1024")
    assert (done.returncode, done.stdout) == (0, "1000\n"), done.stderr


def test_a_gateway_with_too_few_files_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("port: 0\ninternal_port: 0\ngrpc_port: 0\n")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024));"
        "from serve.gateway.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = child("-c", limited, "--no-keys", "--config", str(config))
    assert done.returncode == 1
    needed = GatewaySettings().max_connections
    assert f"max_connections {needed}" in done.stderr
    assert "the system allows 1024" in done.stderr
    assert "Traceback" not in done.stderr
