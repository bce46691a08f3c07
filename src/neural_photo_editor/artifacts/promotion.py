"""Pointing an alias at a version after asking the policy. Needs no torch."""

import json
from pathlib import Path

from pydantic import BaseModel, StrictBool, ValidationError

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.archive import read_bundle
from neural_photo_editor.artifacts.description import is_bundle, read_artifact
from neural_photo_editor.artifacts.names import check_name, first_problem
from neural_photo_editor.artifacts.policy import Policy

GATE_NAME = "gate.json"


class PromotionError(ValueError):
    """The policy or the gate refuses a promotion."""


class GateReport(BaseModel):
    """What counts of a ``gate.json``: the verdict and on whom.

    Attributes:
        passed: the candidate is no worse.
        candidate_digest: of the bundle that was compared.
        current_digest: of the bundle that it was compared with; None where there was none.
    """

    passed: StrictBool
    candidate_digest: str
    current_digest: str | None = None


def promote(
    registry: Path | str,
    reference: str,
    alias: str,
    *,
    policy: Policy,
    gate: Path | None = None,
    reason: str | None = None,
) -> tuple[str, int]:
    """Point an alias at a version, if the policy lets it.

    Args:
        registry: the registry's folder or address.
        reference: of an artifact or a bundle.
        alias: such as ``production``.
        policy: see `policy.load_policy`.
        gate: the ``gate.json`` of a comparison, or the folder that holds it.
        reason: for the history.

    Returns:
        Name and version.

    Raises:
        PromotionError: the policy refuses; says by which rules, and for which parts and licenses.
        ValueError: no such version, or a file is damaged.
    """
    name, version = registries.find_version(registry, reference)
    versioned = f"{name}@{version}"
    bundle = read_bundle(registry, versioned)[0] if is_bundle(registry, name, version) else None
    if bundle is not None:
        parts = {f"{kind} {p.name}@{p.version}": p.licenses for kind, p in bundle.parts.items()}
    else:
        artifact = read_artifact(registry, versioned)
        parts = {f"{artifact.kind} {versioned}": artifact.provenance.licenses}
    refusals = [
        line
        for part, licenses in parts.items()
        for line in policy.refusals(check_name(alias), part, licenses)
    ]
    if refusals:
        raise PromotionError(f"{versioned} may not become {alias}: {'; '.join(refusals)}")
    current = registries.settle(registry, name, alias)
    if bundle is not None and policy.rule(alias).requires_gate:
        _check_gate(registry, name, alias, current, candidate=bundle.digest, gate=gate)
    registries.set_alias(registry, name, alias, version, reason=reason, unless_moved_from=current)
    return name, version


def _check_gate(
    registry: Path | str,
    name: str,
    alias: str,
    version: int | None,
    *,
    candidate: str,
    gate: Path | None,
) -> None:
    if gate is None:
        raise PromotionError(
            f"a bundle needs a passed gate to become {alias} (rule {alias}.requires_gate): compare "
            f"it with the current one, then add --gate FOLDER"
        )
    file = gate / GATE_NAME if gate.is_dir() else gate
    try:
        report = GateReport.model_validate(json.loads(file.read_bytes()))
    except OSError as error:
        raise PromotionError(f"there is no gate report {file}") from error
    except ValidationError as error:
        raise PromotionError(f"{file} is not valid: {first_problem(error)}") from error
    except ValueError as error:
        raise PromotionError(f"{file} is no JSON") from error
    if report.candidate_digest != candidate:
        raise PromotionError(
            f"{file} is about the bundle {report.candidate_digest}, not about {candidate}"
        )
    current = None if version is None else read_bundle(registry, f"{name}@{version}")[0].digest
    if current not in (None, report.current_digest):
        raise PromotionError(
            f"{file} compares with the bundle {report.current_digest}, but {alias} is {current} "
            "now: compare again"
        )
    if not report.passed:
        raise PromotionError(f"{file} says that the bundle did not pass the gate")
