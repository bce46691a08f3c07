"""Train, export, pack, serve and edit on drawn portraits: ``python pipelines/demo.py``."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from omegaconf import DictConfig

# A script finds modules in its own folder only: the other pipelines are found from the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neural_photo_editor.api import EditClient, EditError
from neural_photo_editor.common.log import configure_logging, get_logger
from neural_photo_editor.evaluation.demo_report import KINDS, demo_checks, write_demo_report
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.report import Check
from neural_photo_editor.evaluation.showcase import ShownEdit, choose_edits, run_edits
from pipelines.chain import ARCHIVE, run_folders
from pipelines.run_all import run_all
from serve.development_key import ensure_development_key
from serve.gateway.routes import Routes
from serve.gateway.settings import GatewaySettings
from serve.gateway_process import GatewayProcess, route_to, write_routes
from serve.torchserve_process import TorchServeProcess

_log = get_logger(__name__)

REQUEST_TIMEOUT_S = 300.0


def demo(cfg: DictConfig) -> list[Check]:
    """Run everything, write ``out_dir/report.html`` and return the checks."""
    out = Path(cfg.out_dir)
    records = run_all(cfg)
    durations_s = {name: record.duration_s or 0.0 for name, record in records.items()}
    start = time.monotonic()
    edits = choose_edits(portrait_seed=cfg.portrait_seed, resolution=cfg.portrait_resolution)
    _log.info("[serve] starting TorchServe and the gateway ...")
    with _served(out / ARCHIVE, workdir=out / "serve") as (url, api_key):
        durations_s["start the server"] = time.monotonic() - start
        _log.info("[serve] ready at %s: %d edits ...", url, len(edits))
        start = time.monotonic()
        with EditClient(url, api_key=api_key, timeout_s=REQUEST_TIMEOUT_S) as client:
            shown: list[ShownEdit] = run_edits(client, edits, folder=out)
            bundle_digest = client.segment(edits[0].photo).metadata.bundle_digest
        durations_s["edit"] = time.monotonic() - start
        _log.info("[serve] %d edits ... %.0f s", len(shown), durations_s["edit"])
    runs = run_folders(cfg.preset, out)
    evaluations = {kind: EvaluationResult.load(runs[kind] / "evaluation") for kind in KINDS}
    checks = demo_checks(evaluations, shown, require=cfg.require)
    report = write_demo_report(
        out,
        runs=runs,
        evaluations=evaluations,
        edits=shown,
        checks=checks,
        durations_s=durations_s,
        bundle_digest=bundle_digest,
    )
    for check in checks:
        _log.log(logging.INFO if check.passed else logging.ERROR, "[check] %s", check)
    _log.info("[report] %s", report)
    return checks


@contextmanager
def _served(archive: Path, *, workdir: Path) -> Iterator[tuple[str, str]]:
    """Serve an archive behind a gateway on free ports; yields its address and a key."""
    settings = GatewaySettings(
        port=0,
        internal_port=0,
        grpc_port=None,
        routes_file=workdir.resolve() / "routes.json",
        keys_file=workdir.resolve() / "keys.json",
        usage_file=workdir.resolve() / "usage.sqlite",
        request_timeout_s=REQUEST_TIMEOUT_S,
        drain_delay_s=0.0,
    )
    api_key = ensure_development_key(settings.keys_file).read_text().strip()
    with TorchServeProcess(archive, workdir=workdir) as server:
        write_routes(settings.routes_file, Routes(production=(route_to(server),)))
        with GatewayProcess(settings, workdir=workdir) as gateway:
            yield gateway.url, api_key


@hydra.main(version_base="1.3", config_path="../conf", config_name="demo")
def main(cfg: DictConfig) -> None:
    configure_logging()
    try:
        checks = demo(cfg)
    except (ValueError, EditError) as error:
        raise SystemExit(f"demo: {error}") from error
    failed = [check for check in checks if not check.passed]
    if failed:
        raise SystemExit(f"demo: {len(failed)} of {len(checks)} checks failed")


if __name__ == "__main__":
    main()
