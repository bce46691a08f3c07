"""``npe keys`` and a gateway as two processes that share nothing but the file of keys."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.gateway.routes import Routes
from tests.e2e.gateway_process import GatewayProcess, running_gateway
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import PHOTO

pytestmark = pytest.mark.slow


@pytest.fixture
def routes() -> Iterator[Routes]:
    with SmallBackend() as backend:
        yield Routes(production=(backend.route,))


def npe_keys(folder: Path, *arguments: str) -> str:
    """Run ``npe keys`` on the gateway's file and return its output."""
    command = [sys.executable, "-c", "from neural_photo_editor.cli import main; exit(main())"]
    file = ["--file", str(folder / "keys.json")]
    done = subprocess.run(
        [*command, "keys", *arguments, *file], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def segment(gateway: GatewayProcess, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    files = {"photo": PHOTO}
    return httpx.post(f"{gateway.url}/v1/segment", files=files, headers=headers).status_code


def test_keys_made_revoked_and_rotated_count_in_a_running_gateway(
    tmp_path: Path, routes: Routes
) -> None:
    with running_gateway(tmp_path, routes) as gateway:
        gateway.wait_until_ready()
        assert segment(gateway, "") == 401
        key = npe_keys(tmp_path, "create", "--name", "a")
        assert segment(gateway, key) == 200
        newer = npe_keys(tmp_path, "rotate", key.split("_")[1], "--grace", "1h")
        assert [segment(gateway, one) for one in (key, newer)] == [200, 200]
        npe_keys(tmp_path, "revoke", key.split("_")[1])
        assert [segment(gateway, one) for one in (key, newer)] == [401, 401]
        log = gateway.log.read_text()
        assert '"key_id": "' + key.split("_")[1] in log
        assert not any(one.split("_")[2] in log for one in (key, newer))


def test_a_killed_gateway_remembers_the_requests_of_the_day(tmp_path: Path, routes: Routes) -> None:
    key = npe_keys(tmp_path, "create", "--name", "a", "--per-day", "3")
    with running_gateway(tmp_path, routes) as gateway:
        gateway.wait_until_ready()
        assert [segment(gateway, key) for _ in range(2)] == [200, 200]
        gateway.process.kill()
    with running_gateway(tmp_path, routes) as gateway:
        gateway.wait_until_ready()
        assert [segment(gateway, key) for _ in range(3)] == [200, 429, 429]
