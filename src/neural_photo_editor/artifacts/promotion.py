"""Pointing an alias at a version after asking the policy. Needs no torch."""

import json
from pathlib import Path

from pydantic import BaseModel, StrictBool, ValidationError

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.archive import archive_digest, read_bundle
from neural_photo_editor.artifacts.description import is_bundle, read_artifact
from neural_photo_editor.artifacts.names import check_name, first_problem
from neural_photo_editor.artifacts.policy import AliasRule, Policy

GATE_NAME = "gate.json"


class PromotionError(ValueError):
    """The policy or the gate refuses a promotion."""


class GateReport(BaseModel):
    """What counts of a ``gate.json``: the verdict and on whom.

    Attributes:
        passed: the candidate is no worse.
        candidate_digest: of the bundle that was compared.
        candidate_archive_sha256: of its archive, the handler included; None where a folder was
            compared.
        current_digest: of the bundle that it was compared with; None where there was none.
        recipes_digest: of the edits that both made.
        rules_digest: of what they were judged by.
    """

    passed: StrictBool
    candidate_digest: str
    candidate_archive_sha256: str | None = None
    current_digest: str | None = None
    recipes_digest: str | None = None
    rules_digest: str | None = None


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
    asked_again = current == version  # It has passed.
    if bundle is not None and policy.rule(alias).requires_gate and not asked_again:
        report, file = _read_report(alias, gate)
        archive = archive_digest(registry, name, version)
        _check_candidate(report, file, bundle=bundle.digest, archive=archive)
        now = None if current is None else read_bundle(registry, f"{name}@{current}")[0].digest
        _check_comparison(report, file, alias, policy.rule(alias), current=now)
    registries.set_alias(registry, name, alias, version, reason=reason, unless_moved_from=current)
    return name, version


def _read_report(alias: str, gate: Path | None) -> tuple[GateReport, Path]:
    if gate is None:
        raise PromotionError(
            f"a bundle needs a passed gate to become {alias} (rule {alias}.requires_gate): compare "
            f"it with the current one, then add --gate FOLDER"
        )
    file = gate / GATE_NAME if gate.is_dir() else gate
    try:
        return GateReport.model_validate(json.loads(file.read_bytes())), file
    except OSError as error:
        raise PromotionError(f"there is no gate report {file}") from error
    except ValidationError as error:
        raise PromotionError(f"{file} is not valid: {first_problem(error)}") from error
    except ValueError as error:
        raise PromotionError(f"{file} is no JSON") from error


def _check_candidate(report: GateReport, file: Path, *, bundle: str, archive: str) -> None:
    if report.candidate_digest != bundle:
        raise PromotionError(
            f"{file} is about the bundle {report.candidate_digest}, not about {bundle}"
        )
    if report.candidate_archive_sha256 is None:
        raise PromotionError(
            f"{file} names no candidate_archive_sha256, so it is not known which handler was "
            "judged: compare the version of the registry, candidate=NAME@N, not a folder"
        )
    if report.candidate_archive_sha256 != archive:
        raise PromotionError(
            f"{file} is about the archive {report.candidate_archive_sha256}, not about {archive}: "
            "its models are the same, but not its handler or settings; compare again"
        )


def _check_comparison(
    report: GateReport, file: Path, alias: str, rule: AliasRule, *, current: str | None
) -> None:
    for field in ("recipes_digest", "rules_digest"):
        wanted, found = getattr(rule, field), getattr(report, field)
        if wanted not in (None, found):
            raise PromotionError(
                f"{file} has the {field} {found}, but the rule {alias}.{field} is {wanted}: "
                "compare again, with those"
            )
    if current not in (None, report.current_digest):
        raise PromotionError(
            f"{file} compares with the bundle {report.current_digest}, but {alias} is {current} "
            "now: compare again"
        )
    if not report.passed:
        raise PromotionError(f"{file} says that the bundle did not pass the gate")
