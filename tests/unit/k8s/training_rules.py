"""What must hold for trainings and preparations. A rule returns what is wrong, one line each."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch.distributed.run import config_from_args, get_args_parser

from neural_photo_editor.training.exit_codes import NONFINITE, STOPPED
from tests.unit.k8s.manifests import Manifest, Pod, name_of, pods
from tests.unit.k8s.network_rules import of_kind, selects

MODULE = "neural_photo_editor.training.torchrun"
CONF = Path(__file__).resolve().parents[3] / "conf"
_UNITS = {"Gi": 2**30, "Mi": 2**20}


def commands(objects: Sequence[Manifest]) -> Iterator[tuple[str, list[str]]]:
    """Yield the command of each container and TrainJob, with its variables filled in."""
    for where, words, _ in _commands_and_containers(objects):
        yield where, words


def _commands_and_containers(
    objects: Sequence[Manifest],
) -> Iterator[tuple[str, list[str], Manifest]]:
    runtimes = {one["metadata"]["name"]: one for one in of_kind(objects, "TrainingRuntime")}
    for pod in pods(objects):
        for container in pod.containers():
            words = [*container.get("command", []), *container.get("args", [])]
            if words:
                yield pod.name, [_expand(one, container, objects) for one in words], container
    for job in of_kind(objects, "TrainJob"):
        runtime = runtimes.get(job["spec"]["runtimeRef"]["name"])
        if runtime is not None:
            (pod,) = pods([runtime])
            (container,) = pod.containers()
            args = job["spec"]["trainer"]["args"]
            yield name_of(job), [_expand(one, container, objects) for one in args], container


def variables_are_set(objects: Sequence[Manifest]) -> list[str]:
    """Each $(NAME) of a command is a variable of its container, and each setting is in use."""
    found, used = [], ""
    for where, words in commands(objects):
        used += " ".join(words)
        unset = re.findall(r"\$\((\w+)\)", " ".join(words))
        found += [f"{where}: $({name}) is not set" for name in unset]
    for settings in of_kind(objects, "ConfigMap"):
        for name, value in settings["data"].items():
            if value not in used and list(commands(objects)) and name != "NPE_REGISTRY":
                found.append(f"{name_of(settings)}: nothing uses {name}")
    return found


def paths_are_mounted(objects: Sequence[Manifest]) -> list[str]:
    """What a command reads and writes lies on a volume: all else is read-only."""
    found = []
    for where, words, container in _commands_and_containers(objects):
        mounts = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
        for path in (word.rpartition("=")[2] for word in words):
            if path.startswith("/") and not any(
                path == mount or path.startswith(f"{mount}/") for mount in mounts
            ):
                found.append(f"{where}: {path} is not mounted")
    return found


def preparations_share_the_work(objects: Sequence[Manifest]) -> list[str]:
    """Each pod of a preparation has a part of its own, and there are as many parts as pods."""
    found = []
    for job, settings in _settings_of_jobs(objects, "pipelines/prepare_shards.py"):
        spec = job["spec"]
        if spec.get("completionMode") != "Indexed":
            found.append(f"{name_of(job)}: is not Indexed")
        if settings.get("parts") != str(spec.get("completions")):
            found.append(f"{name_of(job)}: parts is {settings.get('parts')}")
        if settings.get("part") != "$(JOB_COMPLETION_INDEX)":
            found.append(f"{name_of(job)}: part is {settings.get('part')}")
    return found


def jobs_meet_at_their_first_pod(objects: Sequence[Manifest]) -> list[str]:
    """torchrun of a Job expects as many nodes as there are pods, and finds the first one's name."""
    found = []
    for job in of_kind(objects, "Job"):
        words = _words_after(job, MODULE)
        if words is None:
            continue
        where, spec, metadata = name_of(job), job["spec"], job["metadata"]
        options = get_args_parser().parse_args(words)
        launch, _, _ = config_from_args(options)
        pod = spec["template"]["spec"]
        counts = {spec.get("completions"), spec.get("parallelism"), launch.max_nodes}
        if len(counts) != 1 or spec.get("completionMode") != "Indexed":
            found.append(f"{where}: nodes and indexed pods differ")
        name = f"{metadata['name']}-0.{pod['subdomain']}.{metadata['namespace']}"
        host, _, port = options.rdzv_endpoint.partition(":")
        if options.rdzv_backend != "c10d" or host != f"{name}.svc.cluster.local":
            found.append(f"{where}: meets at {host}")
        services = [
            one
            for one in of_kind(objects, "Service")
            if one["metadata"]["name"] == pod["subdomain"]
            and one["spec"].get("clusterIP") == "None"
            and one["spec"].get("publishNotReadyAddresses")
            and int(port) in [given["port"] for given in one["spec"]["ports"]]
        ]
        labels = spec["template"]["metadata"]["labels"]
        if not any(selects({"matchLabels": one["spec"]["selector"]}, labels) for one in services):
            found.append(f"{where}: no headless Service names its pods")
        gpus = pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        if str(launch.nproc_per_node) != gpus:
            found.append(f"{where}: {launch.nproc_per_node} processes on {gpus} GPUs")
    return found


def train_jobs_fit_their_runtime(objects: Sequence[Manifest]) -> list[str]:
    """The operator finds its container, and nothing that it sets is set already."""
    found = []
    runtimes = {one["metadata"]["name"]: one for one in of_kind(objects, "TrainingRuntime")}
    for runtime in runtimes.values():
        where = name_of(runtime)
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        label = job["template"]["metadata"]["labels"].get(
            "trainer.kubeflow.org/trainjob-ancestor-step"
        )
        containers = [one["name"] for pod in pods([runtime]) for one in pod.containers()]
        if (label, containers) != ("trainer", ["node"]):
            found.append(f"{where}: the operator looks for a container node of a step trainer")
    for one in of_kind(objects, "TrainJob"):
        where, trainer, reference = name_of(one), one["spec"]["trainer"], one["spec"]["runtimeRef"]
        if reference.get("kind") != "TrainingRuntime" or reference["name"] not in runtimes:
            found.append(f"{where}: there is no {reference.get('kind')} {reference['name']}")
        gpus = trainer["resourcesPerNode"]["limits"].get("nvidia.com/gpu")
        if str(trainer["numProcPerNode"]) != gpus:
            found.append(f"{where}: {trainer['numProcPerNode']} processes on {gpus} GPUs")
        words = " ".join(trainer["args"])
        if "--max-restarts=0" not in words or "--nnodes" in words or "--rdzv" in words:
            found.append(f"{where}: says what the operator says, or restarts processes by itself")
    for manifest in objects:
        found += [f"{name_of(manifest)}: sets {name}" for name in _keys(manifest, "PET_")]
    return found


def failures_are_told_apart(objects: Sequence[Manifest]) -> list[str]:
    """A wrong configuration ends a training; being stopped and a drained node cost no attempt."""
    wanted = {
        ("FailJob", (NONFINITE, os.EX_CONFIG)),
        ("Ignore", (STOPPED,)),
        ("Ignore", "DisruptionTarget"),
    }
    found = []
    for where, spec in _job_specs(objects):
        if "train.py" not in str(spec) and not where.startswith("TrainingRuntime"):
            continue
        given: set[tuple[str, Any]] = set()
        for rule in spec.get("podFailurePolicy", {}).get("rules", []):
            for condition in rule.get("onPodConditions", []):
                given.add((rule["action"], condition["type"]))
            if "onExitCodes" in rule:
                given.add((rule["action"], tuple(sorted(rule["onExitCodes"]["values"]))))
        if given != wanted:
            found.append(f"{where}: podFailurePolicy is {sorted(map(str, given))}")
        pod = spec["template"]["spec"]
        if pod["restartPolicy"] != "Never" or pod.get("terminationGracePeriodSeconds", 0) < 60:
            found.append(f"{where}: no time for a checkpoint, or containers start again in place")
    return found


def nothing_is_suspended(objects: Sequence[Manifest]) -> list[str]:
    """Kueue suspends and resumes; a manifest that does stops what runs when it is applied again."""
    kinds = of_kind(objects, "Job") + of_kind(objects, "TrainJob")
    return [f"{name_of(one)}: says suspend by itself" for one in kinds if "suspend" in one["spec"]]


def trainings_have_their_volumes(objects: Sequence[Manifest]) -> list[str]:
    """Runs are on a volume that all nodes share; shards are cached on the node, with room."""
    cache_bytes = yaml.safe_load((CONF / "data" / "photos.yaml").read_text())["cache_bytes"]
    shared = {
        claim["metadata"]["name"]
        for claim in of_kind(objects, "PersistentVolumeClaim")
        if claim["spec"]["accessModes"] == ["ReadWriteMany"]
    }
    found = []
    for pod in _training_pods(objects):
        volumes = _mounted(pod)
        claim = volumes.get("/runs", {}).get("persistentVolumeClaim", {}).get("claimName")
        if claim not in shared:
            found.append(f"{pod.name}: /runs is not shared")
        if _size(volumes.get("/cache", {}).get("emptyDir", {}).get("sizeLimit")) < cache_bytes:
            found.append(f"{pod.name}: /cache is not a folder of the node with room")
        if volumes.get("/dev/shm", {}).get("emptyDir", {}).get("medium") != "Memory":
            found.append(f"{pod.name}: /dev/shm is not memory")
    for where, words in commands(objects):
        if "pipelines/train.py" in words:
            settings = dict(word.partition("=")[::2] for word in words)
            if settings.get("data.cache_dir") != "/cache" or not settings.get(
                "run_dir", ""
            ).startswith("/runs/"):
                found.append(f"{where}: caches or runs lie elsewhere")
    return found


def _training_pods(objects: Sequence[Manifest]) -> list[Pod]:
    return [
        pod
        for pod in pods(objects)
        if pod.owner["kind"] == "TrainingRuntime" or _words_after(pod.owner, MODULE) is not None
    ]


def _mounted(pod: Pod) -> dict[str, Manifest]:
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    (container,) = pod.containers()
    return {
        mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container["volumeMounts"]
    }


def _size(quantity: str | None) -> int:
    return 0 if quantity is None else int(quantity[:-2]) * _UNITS[quantity[-2:]]


def _words_after(job: Manifest, word: str) -> list[str] | None:
    """Return a Job's arguments behind a word, None where it does not have it."""
    if job["kind"] != "Job":
        return None
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0].get("args", [])
    return args[args.index(word) + 1 :] if word in args else None


def _settings_of_jobs(
    objects: Sequence[Manifest], script: str
) -> Iterator[tuple[Manifest, dict[str, str]]]:
    for job in of_kind(objects, "Job"):
        words = _words_after(job, script)
        if words is not None and "completions" in job["spec"]:
            yield job, dict(word.partition("=")[::2] for word in words)


def _job_specs(objects: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for job in of_kind(objects, "Job"):
        yield name_of(job), job["spec"]
    for runtime in of_kind(objects, "TrainingRuntime"):
        for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
            yield name_of(runtime), job["template"]["spec"]


def _keys(part: Any, prefix: str) -> Iterator[str]:
    """Yield the names of variables that begin so, anywhere in an object."""
    if isinstance(part, dict):
        if str(part.get("name", "")).startswith(prefix):
            yield part["name"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _keys(item, prefix)


def _expand(word: str, container: Manifest, objects: Sequence[Manifest]) -> str:
    """Fill in what a container's variables say, as a kubelet does; unknown ones stay."""
    values = {one["name"]: one.get("value", one["name"]) for one in container.get("env", [])}
    for source in container.get("envFrom", []):
        name = source.get("configMapRef", {}).get("name")
        for settings in of_kind(objects, "ConfigMap"):
            if settings["metadata"]["name"] == name:
                values = settings["data"] | values
    values.setdefault("JOB_COMPLETION_INDEX", "0")  # the Job's controller sets it
    return re.sub(r"\$\((\w+)\)", lambda match: values.get(match[1], match[0]), word)


TRAINING_RULES = (
    variables_are_set,
    paths_are_mounted,
    preparations_share_the_work,
    jobs_meet_at_their_first_pod,
    train_jobs_fit_their_runtime,
    failures_are_told_apart,
    nothing_is_suspended,
    trainings_have_their_volumes,
)
