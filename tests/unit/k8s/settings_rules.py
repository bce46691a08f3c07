"""Settings in manifests against the code that reads them."""

import argparse
import functools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import httpx
import yaml

from neural_photo_editor.cli.command import _parser as npe_parser
from serve.gateway.__main__ import _parse as parse_gateway
from serve.gateway.routes import RoutesFile
from serve.gateway.settings import GatewaySettings, load_settings
from serve.worker import _parse as parse_worker
from tests.unit.k8s.manifests import REPOSITORY, Manifest, Pod, name_of, pods, whole_spec
from tests.unit.k8s.network_rules import of_kind

GATEWAY_IMAGE = "neural-photo-editor-gateway"
WORKER_IMAGE = "neural-photo-editor-torchserve"
# Read by libraries, not by us: threads of the math libraries.
OF_LIBRARIES = {"OMP_NUM_THREADS"}
MEBIBYTE = 2**20
# docs/gateway.md, "Load": a request as read and as sent, and its answer.
BYTES_IN_FLIGHT = 128 * MEBIBYTE
OWN_BYTES = 256 * MEBIBYTE
_MEMORY_UNITS = {"Mi": MEBIBYTE, "Gi": 2**30}

_T = TypeVar("_T")


def variables_are_read(objects: Sequence[Manifest]) -> list[str]:
    """Every environment variable is read by the code, or stands in the container's command."""
    found = []
    for pod, container in _containers(objects):
        words = " ".join([*container.get("command", []), *container.get("args", [])])
        for name in _variables(objects, container):
            if f"$({name})" in words or name in OF_LIBRARIES or f'"{name}"' in _code():
                continue
            found.append(f"{pod.name}/{container['name']}: nothing reads {name}")
        for name in re.findall(r"\$\((\w+)\)", words):
            if name not in set(_variables(objects, container)):
                found.append(f"{pod.name}/{container['name']}: {name} is not set")
    return found


def arguments_are_known(objects: Sequence[Manifest]) -> list[str]:
    """The programs' own parsers take the commands."""
    found = []
    for pod, container in _containers(objects):
        try:
            _parse(container)
        except (SystemExit, argparse.ArgumentError):
            found.append(f"{pod.name}/{container['name']}: its arguments are refused")
    return found


def settings_fit(objects: Sequence[Manifest]) -> list[str]:
    """Each gateway's settings are valid, and agree with its mounts, memory, probes and workers."""
    found = []
    for pod, container in _containers(objects):
        if GATEWAY_IMAGE not in container["image"]:
            continue
        where = f"{pod.name}/{container['name']}"
        try:
            settings = _settings(objects, pod, container)
        except ValueError as error:
            found.append(f"{where}: {error}")
            continue
        found += [f"{where}: {problem}" for problem in _misfits(objects, pod, container, settings)]
    return found


def routes_lead_to_workers(objects: Sequence[Manifest]) -> list[str]:
    """Routes files can be read; a route names a Service of workers, or the worker in the pod."""
    found = []
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    for config in of_kind(objects, "ConfigMap"):
        text = config.get("data", {}).get("routes.json")
        if text is None:
            continue
        routes = _read(text, "routes.json", lambda path: RoutesFile(path).changed())
        if routes is None or not routes.production:
            found.append(f"{name_of(config)}: the routes are broken, or lead nowhere")
            continue
        for route in routes.channels():
            host, port = httpx.URL(route.url).host, httpx.URL(route.url).port
            spec = services.get(host)
            ports = {8085} if host == "127.0.0.1" else _ports(spec)
            # With an address of its own a Service would spread control calls over all workers.
            if host != "127.0.0.1" and not (
                spec
                and spec.get("clusterIP") == "None"
                and spec.get("publishNotReadyAddresses")
                and route.each_address
            ):
                found.append(f"{name_of(config)}: {host} is no headless Service for each address")
            if port not in ports:
                found.append(f"{name_of(config)}: {host} has no port {port}")
    return found


def workers_have_time_to_drain(objects: Sequence[Manifest]) -> list[str]:
    """A pod may take longer to end than its worker does, and a gateway in it ends before."""
    found = []
    for pod, container in _containers(objects):
        if not _is_main(container, WORKER_IMAGE):
            continue
        before = (
            container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        wanted = before + parse_worker(container["args"]).drain_s + 20
        if _grace(objects, pod) < wanted:
            found.append(f"{pod.name}: it is killed before {wanted:.0f} s of draining are over")
        for beside in pod.containers(with_init=False):
            if _is_main(beside, GATEWAY_IMAGE):
                taking = _settings(objects, pod, beside).drain_delay_s
                if before < taking + 5:
                    found.append(f"{pod.name}: its gateway takes requests for {taking:.0f} s")
    return found


def _misfits(
    objects: Sequence[Manifest], pod: Pod, container: Manifest, settings: GatewaySettings
) -> Iterator[str]:
    mounts = [PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"]]
    for path in (settings.routes_file, settings.keys_file, settings.usage_file):
        if not any(PurePosixPath(path).is_relative_to(mount) for mount in mounts):
            yield f"{path} is on no volume"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = {"http": settings.port, "internal": settings.internal_port, "grpc": settings.grpc_port}
    for name, number in ports.items():
        if given[name] != number:
            yield f"port {name} is {number}, and the settings say {given[name]}"
    if settings.host == "127.0.0.1":
        yield "it listens on loopback only"
    if settings.internal_host == "127.0.0.1":
        yield "its internal port, which probes ask, listens on loopback only"
    needed = settings.max_in_flight * BYTES_IN_FLIGHT + settings.max_upload_bytes_total + OWN_BYTES
    if needed > _bytes(container["resources"]["limits"]["memory"]):
        yield f"its requests may take {needed // MEBIBYTE} MiB, and its memory is less"
    if _grace(objects, pod) < settings.drain_delay_s + settings.drain_timeout_s + 10:
        yield "it is killed before draining is over"
    if settings.request_timeout_s > settings.drain_timeout_s:
        yield "a request may take longer than draining"
    queued = pod.owner.get("spec", {}).get("replicas", 1) * settings.batches_in_flight * _batch()
    if queued > _worker_queue():
        yield f"all replicas together send a worker {queued} requests, more than its queue takes"


def _grace(objects: Sequence[Manifest], pod: Pod) -> float:
    return float(whole_spec(pod, objects).get("terminationGracePeriodSeconds", 30))


def _settings(objects: Sequence[Manifest], pod: Pod, container: Manifest) -> GatewaySettings:
    path = PurePosixPath(parse_gateway(container["args"]).config)
    for mount in container["volumeMounts"]:
        if path.parent == PurePosixPath(mount["mountPath"]):
            volume = next(one for one in pod.spec["volumes"] if one["name"] == mount["name"])
            data = _config(objects, volume["configMap"]["name"])
            if path.name in data:
                return _read(data[path.name], path.name, load_settings)
    raise ValueError(f"{path} is in no ConfigMap")


def _parse(container: Manifest) -> None:
    command, arguments = container.get("command", []), container.get("args", [])
    if command[:1] == ["npe"]:
        npe_parser().parse_args(command[1:])
    elif _is_main(container, WORKER_IMAGE):
        parse_worker(arguments)
    elif _is_main(container, GATEWAY_IMAGE):
        parse_gateway(arguments)


def _is_main(container: Manifest, image: str) -> bool:
    return image in container["image"] and "command" not in container


def _variables(objects: Sequence[Manifest], container: Manifest) -> Iterator[str]:
    for one in container.get("env", []):
        yield one["name"]
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            yield from _config(objects, source["configMapRef"]["name"])


def _config(objects: Sequence[Manifest], name: str) -> dict[str, str]:
    for config in of_kind(objects, "ConfigMap"):
        if config["metadata"]["name"] == name:
            return dict(config["data"])
    raise ValueError(f"there is no ConfigMap {name}")


def _containers(objects: Sequence[Manifest]) -> Iterator[tuple[Pod, Manifest]]:
    for pod in pods(objects):
        for container in pod.containers():
            yield pod, container


def _read(text: str, name: str, read: Callable[[Path], _T]) -> _T:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(text)
        return read(path)


def _ports(spec: Manifest | None) -> set[int]:
    return {port["port"] for port in (spec or {}).get("ports", [])}


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _MEMORY_UNITS[quantity[-2:]]


def _batch() -> int:
    return int(yaml.safe_load((REPOSITORY / "serve/model-config.yaml").read_text())["batchSize"])


def _worker_queue() -> int:
    text = (REPOSITORY / "serve/config.properties").read_text()
    found = re.search(r"^job_queue_size=(\d+)$", text, flags=re.MULTILINE)
    assert found is not None
    return int(found[1])


@functools.cache
def _code() -> str:
    folders = (REPOSITORY / "serve", REPOSITORY / "src", REPOSITORY / "pipelines")
    return "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))


SETTINGS_RULES = (
    variables_are_read,
    arguments_are_known,
    settings_fit,
    routes_lead_to_workers,
    workers_have_time_to_drain,
)
