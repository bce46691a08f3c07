import json
import zipfile
from pathlib import Path

import pytest

from neural_photo_editor.artifacts.archive import ARCHIVE_NAME, publish_bundle, read_bundle
from neural_photo_editor.artifacts.policy import AliasRule, Policy, load_policy
from neural_photo_editor.artifacts.promotion import PromotionError, promote
from neural_photo_editor.artifacts.registry import list_aliases, list_changes, set_alias
from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.data.celebamask_hq import LICENSE as CELEBAMASK_HQ
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from tests.unit.artifacts.conftest import export_tiny, publish_tiny_bundle

SHIPPED = Path(__file__).parents[3] / "conf" / "policy.yaml"
BUNDLE = "neural_photo_editor"
NC = "CC-BY-NC-2.0"
FREE = "CC0-1.0"


def _refusals(rule: dict[str, object], *licenses: str, alias: str = "production") -> list[str]:
    policy = Policy.model_validate({"aliases": {alias: rule}})
    return policy.refusals(alias, "denoiser d@1", licenses)


def _bundle(tmp_path: Path, **licenses: list[str]) -> Path:
    for kind in ("denoiser", "segmenter", "upscaler"):
        export_tiny(kind, tmp_path / "registry", licenses.get(kind, [FREE]))
    publish_tiny_bundle(tmp_path / "registry", tmp_path / "out")
    return tmp_path / "registry"


def _archive(registry: Path, version: int) -> Path:
    return registry / BUNDLE / "versions" / str(version) / ARCHIVE_NAME


def _gate(tmp_path: Path, **content: object) -> Path:
    folder = tmp_path / "gate"
    folder.mkdir(exist_ok=True)
    (folder / "gate.json").write_text(json.dumps({"regions": {}, **content}))
    return folder


@pytest.mark.parametrize(
    "license",
    [
        NC, "CC-BY-NC-SA-4.0", "cc-by-nc", "CC BY-NC 4.0", "cc-by-nc 2.0", "CC_BY NC 4.0",
        "MIT AND CC-BY-NC 4.0", "CC-BY-4.0 AND CC-BY-NC-4.0", "CC-BY-ND-4.0",
        CELEBAMASK_HQ, "Non-Commercial use", "non commercial", "Research use only",
        "All rights reserved", "proprietary",
        "not stated", "Not_Stated", "N/A", "other", "custom", "", " ",
    ],
)  # fmt: skip
def test_the_shipped_policy_keeps_a_license_out_of_production(license: str) -> None:
    for alias in ("production", "canary"):
        assert len(load_policy(SHIPPED).refusals(alias, "denoiser d@1", (license,))) == 1


def test_the_shipped_policy_lets_free_licenses_in_and_others_elsewhere() -> None:
    policy = load_policy(SHIPPED)
    drawn = SyntheticPortraits(count=1, resolution=32, seed=0).load(0).metadata.license
    for license in (
        drawn, "MIT", "apache-2.0", "CC-BY-2.0", "CC BY 4.0", "CC-BY-SA-4.0", "BSD-3-Clause",
        "Public Domain Mark 1.0", "United States Government Work",
    ):  # fmt: skip
        assert policy.refusals("production", "denoiser d@1", (license,)) == []
    assert policy.refusals("candidate", "denoiser d@1", (NC,)) == []
    assert policy.refusals("candidate", "denoiser d@1", ()) == []
    assert policy.rule("production").requires_gate
    assert not policy.rule("candidate").requires_gate


def test_a_refusal_names_part_license_and_rule() -> None:
    assert _refusals({"refused": ["*-nc-*", "MIT"]}, NC, FREE) == [
        f"denoiser d@1 is under '{NC}' (rule production.refused: '*-nc-*')"
    ]
    assert _refusals({"allowed": ["CC0-*", "MIT"]}, NC, FREE) == [
        f"denoiser d@1 is under '{NC}' (rule production.allowed: CC0-*, MIT)"
    ]
    assert _refusals({}) == ["denoiser d@1 states no license (rule production.unknown: refuse)"]


def test_what_states_no_license_is_refused_for_production_unless_the_policy_says_otherwise() -> (
    None
):
    for license in ("unknown", "NOASSERTION", "Not stated", "N/A", "other", "custom", ""):
        assert _refusals({}, license)
        assert not _refusals({}, license, alias="canary")
        assert not _refusals({"unknown": "allow", "allowed": ["MIT"]}, license)
        assert _refusals({"unknown": "refuse"}, license, alias="canary")
    # A policy that says nothing about production at all.
    assert Policy().refusals("production", "denoiser d@1", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("aliases: {production: {refuse: [x]}}", "aliases.production.refuse"),
        ("aliases: {production: {unknown: maybe}}", "aliases.production.unknown"),
        ("a: [", "is no YAML"),
        ("", "is not valid"),
        ("!!python/object/apply:os.system [echo]", "is no YAML"),
    ],
)
def test_a_wrong_policy_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "policy.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_policy(tmp_path / "policy.yaml")
    with pytest.raises(ValueError, match="name one with --policy"):
        load_policy(tmp_path / "absent.yaml")


def test_one_part_under_a_refused_license_keeps_the_bundle_out(tmp_path: Path) -> None:
    registry = _bundle(tmp_path, segmenter=[FREE, CELEBAMASK_HQ], upscaler=[])
    with pytest.raises(PromotionError) as refusal:
        promote(registry, f"{BUNDLE}@latest", "production", policy=load_policy(SHIPPED))
    message = str(refusal.value)
    assert "segmenter segmenter@1" in message
    assert CELEBAMASK_HQ in message
    assert "production.refused: '*non-commercial*'" in message
    assert "upscaler upscaler@1 states no license" in message
    assert "denoiser" not in message
    assert "production" not in list_aliases(registry, BUNDLE)
    # An artifact of its own is asked for as well.
    with pytest.raises(PromotionError, match="segmenter segmenter@1 is under"):
        promote(registry, "segmenter@1", "production", policy=load_policy(SHIPPED))
    assert promote(registry, "denoiser@latest", "production", policy=load_policy(SHIPPED))
    assert promote(registry, f"{BUNDLE}@latest", "candidate", policy=load_policy(SHIPPED))


def test_a_bundle_needs_a_passed_gate_about_itself_and_the_current_one(tmp_path: Path) -> None:
    registry = _bundle(tmp_path)
    publish_tiny_bundle(registry, tmp_path / "out", steps=11)
    policy = load_policy(SHIPPED)
    digests = [read_bundle(registry, f"{BUNDLE}@{version}")[0].digest for version in (1, 2)]
    set_alias(registry, BUNDLE, "production", 1)
    passed = {
        "passed": True,
        "candidate_digest": digests[1],
        "candidate_archive_sha256": sha256_file(_archive(registry, 2)),
        "current_digest": digests[0],
    }
    for changes, message in (
        ({"candidate_archive_sha256": None}, "candidate=NAME@N, not a folder"),
        ({"candidate_archive_sha256": sha256_file(_archive(registry, 1))}, "not its handler"),
        ({"candidate_digest": digests[0]}, f"about the bundle {digests[0]}"),
        ({"current_digest": digests[1]}, "compare again"),
        ({"current_digest": None}, "compare again"),
        ({"passed": False}, "did not pass"),
        ({"passed": "true"}, "passed"),
        ({"passed": 1}, "passed"),
    ):
        gate = _gate(tmp_path, **{**passed, **changes})
        with pytest.raises(PromotionError, match=message):
            promote(registry, f"{BUNDLE}@2", "production", policy=policy, gate=gate)
    for gate, message in ((None, "--gate"), (tmp_path / "absent", "no gate report")):
        with pytest.raises(PromotionError, match=message):
            promote(registry, f"{BUNDLE}@2", "production", policy=policy, gate=gate)
    assert list_aliases(registry, BUNDLE)["production"] == 1

    gate = _gate(tmp_path, **passed)
    promoted = promote(
        registry, f"{BUNDLE}@2", "production", policy=policy, gate=gate / "gate.json", reason="ok"
    )
    assert promoted == (BUNDLE, 2)
    assert list_aliases(registry, BUNDLE)["production"] == 2
    assert list_changes(registry, BUNDLE, "production")[-1].reason == "ok"
    # Asked again: for servers that gave it up.
    promote(registry, f"{BUNDLE}@2", "production", policy=policy, gate=gate)
    assert [c.to_version for c in list_changes(registry, BUNDLE, "production")] == [1, 2, 2]


def test_the_first_bundle_in_production_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    registry = _bundle(tmp_path)
    digest = read_bundle(registry, f"{BUNDLE}@1")[0].digest
    archive = sha256_file(_archive(registry, 1))
    gate = _gate(tmp_path, passed=True, candidate_digest=digest, candidate_archive_sha256=archive)
    policy = load_policy(SHIPPED)
    assert promote(registry, f"{BUNDLE}@1", "production", policy=policy, gate=gate)


def test_a_gate_says_nothing_about_another_handler_with_the_same_models(tmp_path: Path) -> None:
    registry = _bundle(tmp_path)
    archive = _archive(registry, 1)
    gate = _gate(
        tmp_path,
        passed=True,
        candidate_digest=read_bundle(registry, f"{BUNDLE}@1")[0].digest,
        candidate_archive_sha256=sha256_file(archive),
    )
    with zipfile.ZipFile(archive) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "changed.mar", "w") as file:
        for name, content in members.items():
            file.writestr(name, content + b"\nx = 1\n" if name == "handler.py" else content)
    publish_bundle(registry, tmp_path / "changed.mar")
    policy = load_policy(SHIPPED)
    with pytest.raises(PromotionError, match="its models are the same, but not its handler"):
        promote(registry, f"{BUNDLE}@2", "production", policy=policy, gate=gate)
    assert promote(registry, f"{BUNDLE}@1", "production", policy=policy, gate=gate)


@pytest.mark.parametrize("field", ["recipes_digest", "rules_digest"])
def test_a_rule_may_name_the_recipes_and_the_rules_of_the_gate(tmp_path: Path, field: str) -> None:
    registry = _bundle(tmp_path)
    passed = {
        "passed": True,
        "candidate_digest": read_bundle(registry, f"{BUNDLE}@1")[0].digest,
        "candidate_archive_sha256": sha256_file(_archive(registry, 1)),
    }
    rule = AliasRule.model_validate({"requires_gate": True, field: "5" * 64})
    policy = Policy(aliases={"production": rule})
    for found in ({}, {field: "6" * 64}):
        gate = _gate(tmp_path, **passed, **found)
        with pytest.raises(PromotionError, match=f"the rule production.{field} is 555"):
            promote(registry, f"{BUNDLE}@1", "production", policy=policy, gate=gate)
    gate = _gate(tmp_path, **passed, **{field: "5" * 64})
    assert promote(registry, f"{BUNDLE}@1", "production", policy=policy, gate=gate)


def test_a_promotion_completes_one_that_was_interrupted(tmp_path: Path) -> None:
    registry = _bundle(tmp_path)
    for steps in (11, 12):
        publish_tiny_bundle(registry, tmp_path / "out", steps=steps)
    for version in (1, 2):
        promote(registry, f"{BUNDLE}@{version}", "candidate", policy=Policy())
    (registry / BUNDLE / "aliases/candidate").write_text("1\n")
    assert promote(registry, f"{BUNDLE}@3", "candidate", policy=Policy()) == (BUNDLE, 3)
    changes = list_changes(registry, BUNDLE, "candidate")
    assert [change.from_version for change in changes] == [None, 1, 2]
    assert list_aliases(registry, BUNDLE)["candidate"] == 3


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    registry = _bundle(tmp_path)
    policy = Policy(aliases={"production": AliasRule(requires_gate=True)})
    (tmp_path / "gate.json").write_bytes(b"\x80\x04")
    with pytest.raises(PromotionError, match="is no JSON"):
        promote(registry, f"{BUNDLE}@1", "production", policy=policy, gate=tmp_path)
