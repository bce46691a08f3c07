"""Strict validation of every kind: unknown fields, missing fields, wrong types, unknown kinds.

Kubernetes' own kinds are held against its JSON schemas (kubernetes-validate) of the oldest and of
the newest version that manifests are for; custom kinds against the models that packages bring,
or against a closed schema of ours in schemas/ with the fields that are in use.
"""

import functools
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_validate.utils import schema_contents
from pydantic import BaseModel, ValidationError
from referencing import Registry, Resource

from tests.unit.k8s.manifests import Manifest

VERSIONS = ("1.31", "1.37")
SCHEMAS = Path(__file__).parent / "schemas"

Validator = Callable[[Manifest], list[str]]


# Models that packages bring, by apiVersion and kind; importing one takes a second.
_TRAINER = "kubeflow_trainer_api.models:TrainerV1alpha1"
_MODELS = {
    ("argoproj.io/v1alpha1", "Workflow"): "hera.workflows.models:Workflow",
    ("argoproj.io/v1alpha1", "WorkflowTemplate"): "hera.workflows.models:WorkflowTemplate",
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1:ScaledObject",
    **{
        ("monitoring.coreos.com/v1", kind): f"cloudcoil.models.prometheus_operator.v1:{kind}"
        for kind in ("ServiceMonitor", "PrometheusRule")
    },
    **{
        ("trainer.kubeflow.org/v1alpha1", kind): f"{_TRAINER}{kind}"
        for kind in ("TrainJob", "TrainingRuntime")
    },
}


def schema_problems(manifest: Manifest) -> list[str]:
    """Return what is wrong with an object by the schema of its kind."""
    api_version, kind = manifest.get("apiVersion", ""), manifest.get("kind", "")
    custom = _own_kinds().get((api_version, kind)) or _by_package(api_version, kind)
    if custom is not None:
        return [f"{kind}: {problem}" for problem in custom(manifest)]
    found = []
    for version in VERSIONS:
        try:
            found += _by_json_schema(manifest, _kubernetes_schema(version, api_version, kind))
        except FileNotFoundError:
            found.append(f"no schema for {kind} of {api_version} in Kubernetes {version}")
    return [f"{kind}: {problem}" for problem in dict.fromkeys(found)]


@functools.cache
def _own_kinds() -> dict[tuple[str, str], Validator]:
    """Return how the kinds with schemas of our own are validated, by apiVersion and kind."""
    kinds: dict[tuple[str, str], Validator] = {}
    for file in SCHEMAS.glob("*.yaml"):
        schema = yaml.safe_load(file.read_text())
        known = schema["properties"]
        kinds[known["apiVersion"]["const"], known["kind"]["const"]] = functools.partial(
            _by_own_schema, schema=schema
        )
    return kinds


def _by_package(api_version: str, kind: str) -> Validator | None:
    name = _MODELS.get((api_version, kind))
    if name is None:
        return None
    model = pkgutil.resolve_name(name)
    return _by_trainer(model) if name.startswith(_TRAINER) else _by_model(model)


def _by_model(model: type[BaseModel]) -> Validator:
    def validate(manifest: Manifest) -> list[str]:
        try:
            read = model.model_validate(manifest)
        except ValidationError as error:
            return [
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False)
            ]
        # Unknown fields are dropped, so what was understood is compared with what was written.
        return lost(manifest, read.model_dump(by_alias=True, exclude_unset=True, mode="json"))

    return validate


def _by_trainer(model: Any) -> Validator:
    """Validate by a model whose own conversions know quantities, and drop unknown fields."""

    def validate(manifest: Manifest) -> list[str]:
        try:
            return lost(manifest, model.from_dict(manifest).to_dict())
        except ValueError as error:
            return [" ".join(str(error).split())]

    return validate


def lost(written: Any, understood: Any, where: str = "") -> list[str]:
    """Return the places of a document that a model of it does not give back as they are."""
    if isinstance(written, dict) and isinstance(understood, dict):
        found = [f"{where}{name}: unknown field" for name in written if name not in understood]
        for name in written.keys() & understood.keys():
            found += lost(written[name], understood[name], f"{where}{name}.")
        return found
    if isinstance(written, list) and isinstance(understood, list):
        found = [] if len(written) == len(understood) else [f"{where[:-1]}: items were dropped"]
        for number, pair in enumerate(zip(written, understood, strict=False)):
            found += lost(*pair, f"{where}{number}.")
        return found
    return [] if written == understood else [f"{where[:-1]}: {written!r} became {understood!r}"]


def _by_own_schema(manifest: Manifest, *, schema: Manifest) -> list[str]:
    return _by_json_schema(manifest, (schema, _kubernetes_definitions(VERSIONS[-1])))


def _by_json_schema(manifest: Manifest, schema: tuple[Manifest, Registry[Any]]) -> list[str]:
    contents, registry = schema
    validator = jsonschema.Draft202012Validator(contents, registry=registry)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(manifest)
    ]


@functools.cache
def _kubernetes_schema(version: str, api_version: str, kind: str) -> tuple[Manifest, Registry[Any]]:
    group, _, number = api_version.rpartition("/")
    stem = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    path = f"kubernetes-json-schema/v{version}.0-local-strict/{stem}.json"
    return schema_contents(path, version), _kubernetes_definitions(version)


@functools.cache
def _kubernetes_definitions(version: str) -> Registry[Any]:
    path = f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
    definitions = Resource.from_contents(schema_contents(path, version))
    return (definitions @ Registry()).crawl()
