"""What an Argo WorkflowTemplate would run: each of its steps as the object that the step makes."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.unit.k8s.manifests import Manifest

RUN = "npe-chain-x1"
_ARTIFACT = "some_network@1"  # what an export's artifact.json names


def objects_of_steps(objects: list[Manifest]) -> list[Manifest]:
    """Return objects with each WorkflowTemplate replaced by the Jobs and TrainJobs of its steps."""
    found: list[Manifest] = []
    for manifest in objects:
        if manifest["kind"] == "WorkflowTemplate":
            found += _steps(manifest, manifest["spec"]["entrypoint"], {}, prefix="")
        else:
            found.append(manifest)
    return found


def problems_of_chain(workflow: Manifest) -> list[str]:
    """Return what is wrong with how the templates of a WorkflowTemplate refer to each other."""
    spec = workflow["spec"]
    templates = {one["name"]: one for one in spec["templates"]}
    used = {spec["entrypoint"]}
    found = []
    for template in templates.values():
        siblings = {task["name"] for task in _tasks(template)}
        for task in _tasks(template):
            used.add(task["template"])
            found += _problems_of_task(task, templates.get(task["template"]), siblings)
        known = _names("workflow.parameters", spec["arguments"])
        known |= _names("inputs.parameters", template.get("inputs", {}))
        variables = set(re.findall(r"\{\{([\w.-]+)\}\}", str(template)))
        variables |= set(re.findall(r"inputs\.parameters\.[\w-]+", str(template)))
        unknown = variables - known - {"workflow.name", "item"}
        unknown = {name for name in unknown if not name.startswith(("tasks.", "steps."))}
        found += [f"{template['name']}: there is no {name}" for name in sorted(unknown)]
        if "container" in template and "!= 3" not in template["retryStrategy"]["expression"]:
            found.append(f"{template['name']}: repeats what was refused")
    return found + [f"nothing uses {name}" for name in sorted(set(templates) - used)]


def problems_of_rights(objects: list[Manifest]) -> list[str]:
    """Return which steps may do more at the API server than they need, or less.

    A step that runs our code decodes what others made: it reports its result and may do nothing
    else. One that makes an object may do so.
    """
    rights = _rights(objects)
    found = []
    for manifest in objects:
        spec = manifest["spec"] if manifest["kind"] == "WorkflowTemplate" else {"templates": []}
        for template in spec["templates"]:
            wanted = {"create workflowtaskresults", "patch workflowtaskresults"}
            if "resource" in template:
                wanted |= {f"{verb} trainjobs" for verb in ("create", "get", "patch")}
            elif "container" not in template:
                continue  # Has no pod.
            account = template.get("serviceAccountName", spec["serviceAccountName"])
            if rights.get(account, set()) != wanted:
                found.append(f"{template['name']}: {account} may {sorted(rights.get(account, []))}")
    return found


def _rights(objects: list[Manifest]) -> dict[str, set[str]]:
    """Return by account what its roles allow, as "verb resource"."""
    roles = {one["metadata"]["name"]: one["rules"] for one in objects if one["kind"] == "Role"}
    rights: dict[str, set[str]] = {}
    for binding in (one for one in objects if one["kind"] == "RoleBinding"):
        for subject in binding["subjects"]:
            rights.setdefault(subject["name"], set()).update(
                f"{verb} {resource}"
                for rule in roles[binding["roleRef"]["name"]]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            )
    return rights


def _problems_of_task(task: Manifest, called: Manifest | None, siblings: set[str]) -> list[str]:
    if called is None:
        return [f"{task['name']}: there is no template {task['template']}"]
    given = {one["name"] for one in task.get("arguments", {}).get("parameters", [])}
    wanted = called.get("inputs", {}).get("parameters", [])
    missing = {one["name"] for one in wanted if "value" not in one} - given
    strangers = given - {one["name"] for one in wanted}
    waits_for = set(task.get("dependencies", []))
    late = set(re.findall(r"(?:tasks|steps)\.([\w-]+)\.outputs", str(task))) - waits_for
    return [
        *(f"{task['name']}: {name} is not given" for name in sorted(missing)),
        *(f"{task['name']}: {name} is no parameter" for name in sorted(strangers)),
        *(f"{task['name']}: there is no task {name}" for name in sorted(waits_for - siblings)),
        *(f"{task['name']}: does not wait for {name}" for name in sorted(late)),
    ]


def _names(prefix: str, part: Manifest) -> set[str]:
    return {f"{prefix}.{one['name']}" for one in part.get("parameters", [])}


def _tasks(template: Manifest) -> Iterator[Manifest]:
    yield from template.get("dag", {}).get("tasks", [])
    for group in template.get("steps", []):
        yield from group


def _steps(
    workflow: Manifest, name: str, values: dict[str, str], *, prefix: str
) -> Iterator[Manifest]:
    """Yield the objects of a template that is called with parameters."""
    spec = workflow["spec"]
    (template,) = [one for one in spec["templates"] if one["name"] == name]
    values = {
        f"workflow.parameters.{one['name']}": one["value"]
        for one in spec["arguments"]["parameters"]
    } | {
        f"inputs.parameters.{one['name']}": one["value"]
        for one in template.get("inputs", {}).get("parameters", [])
        if "value" in one
    } | {"workflow.name": RUN, "item": "0"} | values  # fmt: skip
    for task in _tasks(template):
        given = {
            f"inputs.parameters.{one['name']}": _substitute(one["value"], values)
            for one in task.get("arguments", {}).get("parameters", [])
        }
        yield from _steps(workflow, task["template"], given, prefix=f"{prefix}{task['name']}-")
    if "resource" in template:
        made = yaml.safe_load(_substitute(template["resource"]["manifest"], values))
        made["metadata"]["namespace"] = workflow["metadata"]["namespace"]
        yield made
    if "container" in template:
        yield _job(workflow, _substituted(template["container"], values), name=prefix.rstrip("-"))


def _job(workflow: Manifest, container: Manifest, *, name: str) -> Manifest:
    """Return the pod that Argo makes of a container template, as a Job."""
    spec = workflow["spec"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    pod = {
        "containers": [{"name": "main", **container}],
        "volumes": [volume for volume in spec["volumes"] if volume["name"] in mounted],
        "securityContext": spec["securityContext"],
        "serviceAccountName": spec["serviceAccountName"],
        "automountServiceAccountToken": False,  # test_training_manifests has the exception
        "restartPolicy": "Never",
    }
    metadata = {**spec["podMetadata"], "name": name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "namespace": workflow["metadata"]["namespace"]},
        "spec": {"template": {"metadata": spec["podMetadata"], "spec": pod}},
    }


def _substituted(part: Any, values: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {name: _substituted(value, values) for name, value in part.items()}
    if isinstance(part, list):
        return [_substituted(item, values) for item in part]
    return _substitute(part, values) if isinstance(part, str) else part


def _substitute(text: str, values: dict[str, str]) -> str:
    """Replace the variables of Argo's templates; expressions are those that the chain has."""
    text = re.sub(r"\{\{=jsonpath\([^}]*\)\}\}", _ARTIFACT, text)
    text = re.sub(
        r"\{\{=asInt\(([\w.-]+)\) \* (\d+)\}\}",
        lambda match: str(int(values[match[1]]) * int(match[2])),
        text,
    )
    return re.sub(r"\{\{([\w.-]+)\}\}", lambda match: values[match[1]], text)
