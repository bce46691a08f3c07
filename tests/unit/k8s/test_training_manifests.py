"""Trainings, preparations and the chain, with and without their components, by every rule."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from neural_photo_editor.common.batch_split import split_batch
from tests.integration.documented_commands import command_problems
from tests.unit.k8s.manifests import (
    K8S,
    Manifest,
    components,
    kustomizations,
    needs_kubectl,
    render,
    render_with,
)
from tests.unit.k8s.network_rules import NETWORK_RULES, of_kind
from tests.unit.k8s.pod_rules import POD_RULES
from tests.unit.k8s.reference_rules import REFERENCE_RULES, namespaces_are_ours
from tests.unit.k8s.training_rules import TRAINING_RULES, commands
from tests.unit.k8s.validation import schema_problems
from tests.unit.k8s.workflow_steps import objects_of_steps, problems_of_chain, problems_of_rights

pytestmark = needs_kubectl

PARTIAL = {"training/base", "training/runtime", "training/cluster-queue"}
WHOLE = [name for name in [*kustomizations("training"), "workflow"] if name not in PARTIAL]
QUEUE, VOLUME = "training/components/queue", "training/components/shards-volume"
COMBINATIONS = [
    ("training/overlays/trainer", (QUEUE,)),
    ("training/overlays/trainer", (QUEUE, VOLUME)),
    ("training/overlays/jobs", (QUEUE, VOLUME)),
    ("training/prepare", (VOLUME,)),
    ("workflow", (VOLUME,)),
]


def _objects(name: str, parts: Sequence[str], scratch: Path) -> list[Manifest]:
    return render_with(name, parts, scratch=scratch) if parts else render(name)


def _problems(objects: list[Manifest]) -> Iterator[str]:
    steps = objects_of_steps(objects)
    for manifest in [*objects, *(one for one in steps if one not in objects)]:
        yield from schema_problems(manifest)
    for template in of_kind(objects, "WorkflowTemplate"):
        yield from problems_of_chain(template)
    yield from problems_of_rights(objects)
    for rule in (*TRAINING_RULES, *POD_RULES, *NETWORK_RULES, *REFERENCE_RULES):
        yield from rule(steps)
    for where, words in commands(steps):
        yield from (f"{where}: {problem}" for problem in command_problems(words))


def test_everything_is_looked_at() -> None:
    assert {"training/prepare", "training/overlays/jobs", "training/overlays/trainer"} <= set(WHOLE)
    tried = {part for _, parts in COMBINATIONS for part in parts}
    assert tried | {"training/components/pod"} == set(components("training"))


@pytest.mark.parametrize(
    ("name", "parts"), [*((name, ()) for name in WHOLE), *COMBINATIONS], ids=str
)
def test_it_keeps_every_rule(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    assert list(_problems(_objects(name, parts, tmp_path))) == []


@pytest.mark.parametrize("name", ["training/cluster-queue", "training/runtime", "training/base"])
def test_a_part_is_valid(name: str) -> None:
    assert [problem for one in render(name) for problem in schema_problems(one)] == []


def test_a_run_names_the_chain_and_its_parameters() -> None:
    run = yaml.safe_load((K8S / "workflow" / "run.yaml").read_text())
    (template,) = of_kind(render("workflow"), "WorkflowTemplate")
    assert schema_problems(run) == []
    assert run["metadata"]["namespace"] == template["metadata"]["namespace"]
    assert run["spec"]["workflowTemplateRef"]["name"] == template["metadata"]["name"]
    names = {one["name"] for one in template["spec"]["arguments"]["parameters"]}
    assert {one["name"] for one in run["spec"]["arguments"]["parameters"]} <= names


@pytest.mark.parametrize(
    "name", ["training/overlays/jobs", "training/overlays/trainer", "workflow"]
)
def test_a_global_batch_divides_among_the_processes(name: str) -> None:
    batches = []
    for where, words in commands(objects := objects_of_steps(render(name))):
        settings = dict(word.partition("=")[::2] for word in words)
        if "pipelines/train.py" in words:
            job = next(
                one for one in objects if where == f"{one['kind']}/{one['metadata']['name']}"
            )
            trainer = job["spec"].get("trainer", {})
            nodes = int(trainer.get("numNodes", settings.get("--nnodes", 0)))
            devices = int(trainer.get("numProcPerNode", settings.get("--nproc-per-node", 0)))
            batch = int(settings.get("data.batch_size", 32))  # segmenter_128 has 32
            batches.append(split_batch(batch, processes=nodes * devices).per_device)
    assert sorted(batches) == [8, 10, 32]


def test_only_argo_s_executor_has_a_token() -> None:
    """The exception to pods_are_nobody; `problems_of_rights` has what the accounts may do."""
    (template,) = of_kind(render("workflow"), "WorkflowTemplate")
    assert template["spec"]["automountServiceAccountToken"] is True


def test_trainings_join_a_queue_that_is_there(tmp_path: Path) -> None:
    for name in ("training/overlays/jobs", "training/overlays/trainer"):
        (scratch := tmp_path / name.replace("/", "-")).mkdir()
        objects = render_with(name, [QUEUE], scratch=scratch)
        jobs = of_kind(objects, "Job") + of_kind(objects, "TrainJob")
        (queue,) = of_kind(objects, "LocalQueue")
        assert len(jobs) == 3
        for job in jobs:
            label = job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
            assert label == queue["metadata"]["name"]
    (quota,) = of_kind(render("training/cluster-queue"), "ClusterQueue")
    assert queue["spec"]["clusterQueue"] == quota["metadata"]["name"]
    (group,) = quota["spec"]["resourceGroups"]
    flavors = {flavor["name"] for flavor in group["flavors"]}
    assert flavors == {
        one["metadata"]["name"]
        for one in of_kind(render("training/cluster-queue"), "ResourceFlavor")
    }


def _set(name: str, path: str, value: object) -> Callable[[list[Manifest]], None]:
    """Return a change of the object Kind/name at a path such as spec.ports.0.port; None deletes."""

    def change(objects: list[Manifest]) -> None:
        kind, _, wanted = name.partition("/")
        part = next(
            one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, wanted)
        )
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in steps:
            part = part[step]  # type: ignore[index]
        if value is None:
            del part[last]  # type: ignore[arg-type]
        else:
            part[last] = value  # type: ignore[index]

    return change


JOBS, TRAINER, PREPARE = "training/overlays/jobs", "training/overlays/trainer", "training/prepare"
CHAIN, STEPS = "workflow", "WorkflowTemplate/npe-chain"
DDPM, RUNTIME = "Job/ddpm-128", "TrainingRuntime/npe-training"
POLICY = "NetworkPolicy/allow-training"
CONTAINER = "spec/template/spec/containers/0"
RUNTIME_JOB = "spec/template/spec/replicatedJobs/0/template/spec"
BROKEN = [
    (JOBS, _set(DDPM, f"{CONTAINER}/args/3", "--nnodes=3"), "nodes and indexed pods differ"),
    (JOBS, _set(DDPM, "spec/completions", 1), "nodes and indexed pods differ"),
    (JOBS, _set(DDPM, f"{CONTAINER}/args/4", "--nproc-per-node=4"), "4 processes on 8 GPUs"),
    (JOBS, _set(DDPM, "metadata/name", "ddpm"), "meets at ddpm-128-0"),
    (JOBS, _set("Service/npe-training", "spec/publishNotReadyAddresses", None), "no headless"),
    (JOBS, _set("Service/npe-training", "spec/selector", {"a": "b"}), "no headless Service"),
    (JOBS, _set(DDPM, "spec/podFailurePolicy/rules/0/onExitCodes/values", [78]), "podFailure"),
    (JOBS, _set(DDPM, "spec/template/spec/terminationGracePeriodSeconds", 30), "no time for a"),
    (JOBS, _set(DDPM, f"{CONTAINER}/args/11", "experiment=ddpm"), "Hydra refuses"),
    (JOBS, _set(DDPM, f"{CONTAINER}/args/10", "pipelines/trains.py"), "there is no file"),
    (JOBS, _set(DDPM, f"{CONTAINER}/envFrom/0/configMapRef/name", "npe"), "$(NPE_SHARDS) is not"),
    (JOBS, _set("ConfigMap/npe-training", "data/NPE_SHARD", "s3://x"), "nothing uses NPE_SHARD"),
    (JOBS, _set("PersistentVolumeClaim/npe-runs", "spec/accessModes", ["ReadWriteOnce"]), "shared"),
    (JOBS, _set(DDPM, "spec/template/spec/volumes/1/emptyDir/sizeLimit", "40Gi"), "with room"),
    (JOBS, _set(DDPM, f"{CONTAINER}/args/13", "data.cache_dir=/tmp"), "caches or runs lie"),
    (JOBS, _set(DDPM, "spec/suspend", True), "says suspend by itself"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/suspend", False), "says suspend by itself"),
    (JOBS, _set(DDPM, "spec/backofLimit", 3), "backofLimit"),
    (JOBS, _set(POLICY, "spec/podSelector/matchLabels", {"a": "b"}), "no Ingress policy"),
    (JOBS, _set(DDPM, f"{CONTAINER}/volumeMounts/1/mountPath", "/caches"), "/cache is not mounted"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/numProcPerNode", 4), "4 processes on 8"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/numNode", 2), "numNode: unknown field"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/numNodes", "2"), "valid integer"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/runtimeRef/name", "torch"), "there is no Training"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/args/3", "--max-restarts=3"), "restarts"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/env", [{"name": "PET_NNODES"}]), "PET_NN"),
    (TRAINER, _set("TrainJob/ddpm-128", "spec/trainer/args/6", "data.shard=a"), "Hydra refuses"),
    (TRAINER, _set(RUNTIME, f"{RUNTIME_JOB}/podFailurePolicy", None), "podFailurePolicy is []"),
    (TRAINER, _set(RUNTIME, f"{RUNTIME_JOB}/backofLimit", 3), "backofLimit: unknown field"),
    (TRAINER, _set(RUNTIME, f"{RUNTIME_JOB}/{CONTAINER[5:]}/name", "main"), "looks for"),
    (TRAINER, _set(RUNTIME, "spec/mlPolicy/torch", {"numProcPerNode": "auto"}), "unknown field"),
    (CHAIN, _set(STEPS, "spec/serviceAccountName", "npe-trainjobs"), "prepare: npe-trainjobs may"),
    (CHAIN, _set(STEPS, "spec/templates/2/serviceAccountName", None), "train: npe-workflow may"),
    (CHAIN, _set("Role/npe-workflow", "rules/0/verbs", ["*"]), "export: npe-workflow may ['*"),
    (CHAIN, _set("RoleBinding/npe-trainjobs", "roleRef/name", "npe-workflow"), "train: npe-train"),
    (PREPARE, _set("Job/prepare-photos-128", "spec/completions", 8), "parts is 4"),
    (PREPARE, _set("Job/prepare-photos-128", f"{CONTAINER}/args/8", "part=0"), "part is 0"),
    (PREPARE, _set("Job/prepare-photos-128", "spec/completionMode", None), "is not Indexed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    BROKEN,
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_broken_is_found(
    name: str, change: Callable[[list[Manifest]], None], wrong: str
) -> None:
    objects = render(name)
    change(objects)
    assert any(wrong in problem for problem in _problems(objects)), list(_problems(objects))


@pytest.mark.parametrize(
    ("path", "value", "wrong"),
    [
        ("0/dag/tasks/2/template", "trains", "there is no template trains"),
        ("0/dag/tasks/2/arguments/parameters/1/name", "experimen", "experiment is not given"),
        ("0/dag/tasks/2/dependencies", ["prepare"], "there is no task prepare"),
        ("0/dag/tasks/8/dependencies", ["segmenter"], "does not wait for denoiser"),
        (
            "1/container/args/4",
            "source.resolution={{inputs.parameters.side}}",
            "there is no inputs",
        ),
        ("1/retryStrategy/expression", "true", "repeats what was refused"),
        ("1/container/imag", "a", "imag: unknown field"),
    ],
)
def test_a_broken_chain_is_found(path: str, value: object, wrong: str) -> None:
    (template,) = copy.deepcopy(of_kind(render("workflow"), "WorkflowTemplate"))
    _set("WorkflowTemplate/npe-chain", f"spec/templates/{path}", value)([template])
    found = schema_problems(template) + problems_of_chain(template)
    assert any(wrong in problem for problem in found), found


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        (
            "training/cluster-queue",
            _set("ClusterQueue/npe-training", "spec/resourceGroups/0/flavors/0/resources/0", {}),
            "nominalQuota",
        ),
        (
            "training/cluster-queue",
            _set("ResourceFlavor/npe-gpu", "spec/nodeLabel", {}),
            "nodeLabel",
        ),
        (TRAINER, _set("LocalQueue/npe-training", "spec/queue", "a"), "queue"),
    ],
)
def test_a_broken_queue_is_found(
    name: str, change: Callable[[list[Manifest]], None], wrong: str, tmp_path: Path
) -> None:
    objects = _objects(name, (QUEUE,) if name == TRAINER else (), tmp_path)
    change(objects)
    found = [problem for one in objects for problem in schema_problems(one)]
    assert any(wrong in problem for problem in found), found


def test_a_namespace_that_is_not_among_the_objects_is_found() -> None:
    objects = [one for one in render(JOBS) if one["kind"] != "Namespace"]
    assert namespaces_are_ours(objects)
