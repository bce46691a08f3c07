"""Which secrets children get, and that they do not outlive us."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serve.child_process import environment_for_child
from serve.gateway.settings import GatewaySettings
from serve.gateway_process import GatewayProcess
from serve.torchserve_process import TorchServeProcess

SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "AZURE_STORAGE_CONNECTION_STRING",
    "FSSPEC_S3_SECRET",
    "GITHUB_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HF_TOKEN",
    "NPE_API_KEY",
    "PGPASSWORD",
    "SSH_AUTH_SOCK",
    "WANDB_API_KEY",
    "WANDB_BASE_URL",
    "http_proxy_password",
)
HARMLESS = (
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "PATH",
    "PYTORCH_CUDA_ALLOC_CONF",
)
SUPERVISOR = """
import subprocess, sys, time
from serve.child_process import end_with_parent
child = subprocess.Popen(
    ["sleep", "600"],
    start_new_session=True,
    preexec_fn=end_with_parent(),
    stdout=subprocess.DEVNULL,
)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_secrets_are_kept_back_unless_they_are_needed() -> None:
    own = dict.fromkeys((*SECRETS, *HARMLESS), "x")
    assert environment_for_child(frozenset(), own=own).keys() == {*HARMLESS}
    found = environment_for_child(frozenset({"NPE_API_KEY", "NPE_RECEIPT_KEY"}), own=own)
    assert found.keys() == {*HARMLESS, "NPE_API_KEY"}


def environment_of(pid: int | None) -> dict[str, str]:
    found: dict[str, str] = psutil.Process(pid).environ()
    return found


def test_each_child_gets_its_own_secrets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the running children have: their settings need not be good for that."""
    for name in (*SECRETS, "NPE_RECEIPT_KEY", "NPE_CONTROL_TOKEN"):
        monkeypatch.setenv(name, "x")
    archive = tmp_path / "neural_photo_editor.mar"
    archive.touch()
    settings = GatewaySettings(
        port=0, internal_port=0, grpc_port=None, routes_file=tmp_path / "routes.json"
    )
    gateway = GatewayProcess(settings, workdir=tmp_path, keys=False, environment={"OWN_KEY": "y"})
    server = TorchServeProcess(archive, workdir=tmp_path / "server", environment={"OWN_KEY": "y"})
    try:
        gateway.launch()
        server.launch()
        of_gateway, of_server = environment_of(gateway.pid), environment_of(server.pid)
    finally:
        gateway.kill()
        server.stop()
    given = {*SECRETS, "NPE_RECEIPT_KEY", "NPE_CONTROL_TOKEN", "OWN_KEY"}
    assert of_gateway.keys() & given == {"NPE_CONTROL_TOKEN", "OWN_KEY"}
    assert of_server.keys() & given == {"NPE_CONTROL_TOKEN", "NPE_RECEIPT_KEY", "OWN_KEY"}
    assert of_gateway["OWN_KEY"] == of_server["OWN_KEY"] == "y"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
def test_children_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        try:
            assert child.is_running()
            parent.kill()
            assert child.wait(timeout=10) is None
        finally:
            if child.is_running():
                child.kill()
