"""What serving adds to an edit, how much it serves, and how it bears trouble; all on loopback.

    pip install --no-deps --target outputs/peers -r benchmarks/peers.txt        # for peers
    python benchmarks/serving.py [overhead] [throughput] [peers] [overload] [slow] [kills]

Serves a bundle of drawn weights (serving_bundle.py: 128 px networks, an edit of a 512 px photo in
20 steps) with TorchServe, whose worker computes as many edits at a time as there are cores, up to
the four of a batch, with one thread each, behind the gateway with its default settings but without
keys. Clients are a process of their own. About ten minutes with everything on two
idle cores; figures of a machine that does other work mean little, and its load is in the report.

overhead: one client; all but the networks' time, as a share of what the client waits.
throughput: eight clients, beside batches of eight in the pipeline without a server, in turns.
peers: the same pipeline behind LitServe and FastAPI, an edit at a time on all cores, in turns; and
    behind LitServe with batches and edits at a time as here.
overload: ten times as many requests as can be answered. Control: TorchServe without the gateway.
slow: 200 sockets that send a byte a second beside two good clients. Control: no time limits.
kills: the worker killed under four clients. Control: a gateway that sends nothing twice.

Prints tables and what must hold, and writes outputs/benchmarks/serving.json; parts that were not
asked for stay in it.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving_deployment import Deployment, Part, Rows, deployed
from serving_speed import beside_offline, beside_peers, overhead
from serving_trouble import kills, overload, slow_senders

OUTPUT = Path("outputs/benchmarks/serving.json")
PACKAGES = ("torch", "torchserve", "fastapi", "uvicorn", "httpx")


def parts(args: argparse.Namespace) -> dict[str, Callable[[Deployment], Part]]:
    """Return the parts by name, with their sizes."""
    return {
        "overhead": partial(overhead, requests=args.requests),
        "throughput": partial(beside_offline, rounds=args.rounds),
        "peers": partial(beside_peers, rounds=args.rounds),
        "overload": partial(overload, seconds=args.overload_s),
        "slow": slow_senders,
        "kills": partial(kills, count=args.kills),
    }


def show(name: str, part: Part) -> None:
    """Print a part: its rows stand in columns, for there are few of them."""
    print(f"\n{name}")
    columns = list(part.rows)
    print(" " * 26 + "".join(f"{column[:22]:>24}" for column in columns))
    quantities = dict.fromkeys(quantity for values in part.rows.values() for quantity in values)
    for quantity in quantities:
        cells = (_cell(part.rows, column, quantity) for column in columns)
        print(f"{quantity:26}" + "".join(f"{cell:>24}" for cell in cells))
    for check in part.checks:
        print(check, flush=True)


def _cell(rows: Rows, column: str, quantity: str) -> str:
    return f"{rows[column][quantity]:.4g}" if quantity in rows[column] else ""


def write(name: str, part: Part, load: tuple[float, float, float]) -> None:
    """Put a part into the report, with the machine and the work it did beforehand."""
    report: dict[str, Any] = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    report[name] = {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.system()}",
        "load_average": load,
        "packages": {package: version(package) for package in PACKAGES},
        "rows": part.rows,
        "checks": [
            {"name": c.name, "value": c.value, "bound": c.bound, "holds": c.passed}
            for c in part.checks
        ],
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="all when left out")
    parser.add_argument("--requests", type=int, default=30, help="of overhead")
    parser.add_argument("--rounds", type=int, default=4, help="turns of throughput and peers")
    parser.add_argument("--overload-s", type=float, default=120.0)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    known = parts(args)
    if unknown := set(args.parts) - set(known):
        parser.error(f"there is no part {min(unknown)}: choose from {', '.join(known)}")
    # Ended from outside, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = os.getloadavg()
    print(f"load average before: {load[0]:.1f} on {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as deployment:
        for name in args.parts or known:
            part = known[name](deployment)
            show(name, part)
            write(name, part, load)
    print(f"written: {OUTPUT}")


if __name__ == "__main__":
    main()
