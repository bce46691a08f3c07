"""Every command that a page, a configuration or a manifest shows would be taken as it stands."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.documented_commands import (
    ROOT,
    commands_in_header,
    commands_in_markdown,
    problems,
)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _documents() -> Iterator[tuple[Path, list[str]]]:
    for page in PAGES:
        yield page, list(commands_in_markdown(page.read_text()))
    for folder in ("conf", "k8s"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            yield file, list(commands_in_header(file.read_text()))


DOCUMENTS = {str(path.relative_to(ROOT)): commands for path, commands in _documents() if commands}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_a_document_are_taken(document: str) -> None:
    found = {command: wrong for command in DOCUMENTS[document] if (wrong := problems(command))}
    assert found == {}


def test_no_training_takes_the_name_of_another_experiment() -> None:
    experiments = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    named = [
        dict(re.findall(r"\b(experiment|name)=(\w+)", command))
        for commands in DOCUMENTS.values()
        for command in commands
        if "pipelines/train.py" in command
    ]
    assert any("name" in chosen for chosen in named)
    taken = [c for c in named if c.get("name") in experiments and c["name"] != c["experiment"]]
    assert taken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_all_kinds_of_documents_are_read() -> None:
    assert {"README.md", "docs/scaling.md", "conf/train.yaml"} < set(DOCUMENTS)
    assert any("pipelines/train.py" in command for command in DOCUMENTS["docs/upscaler.md"])
    assert len(DOCUMENTS["README.md"]) > 30


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("python pipelines/tran.py experiment=ddpm_128", "there is no file pipelines/tran.py"),
        ("python pipelines/train.py experiment=ddpm_64 data.shards=DIR", "Hydra refuses"),
        ("python pipelines/train.py experiment=ddpm_128 data.sharts=DIR", "Hydra refuses"),
        ("python pipelines/train.py experiment=ddpm_128", "leaves ['data.shards'] open"),
        ("srun python pipelines/train.py data.shards=DIR", "Hydra refuses"),
        ("torchrun --nprocs-per-node 8 pipelines/train.py experiment=x", "torchrun refuses"),
        ("torchrun --nproc-per-node 8 pipelines/trai.py", "there is no file"),
        ("python -m neural_photo_editor.training.torchrun --node 2 a.py", "torchrun refuses"),
        ("python -m serve.gatewey --config a", "there is no module serve.gatewey"),
        ("python -m serve.worker --marr a --workdir b", "serve/worker.py has no --marr"),
        ("python serve/start.py --ports 3", "serve/start.py has no --ports"),
        ("npe edits portrait.png", "npe refuses"),
        ("A=b npe edit portrait.png --hairs > a.png", "npe refuses"),
        ("cd a && make demos", "make has no target demos"),
        ("export KEY=$(npe keys make --name me)", "npe refuses keys make"),
        ("python -m pytest tests/e2e/test_image.py", "there is no tests/e2e/test_image.py"),
        ("docker build --target trian .", "no target trian"),
        ("docker run neural-photo-editor-train:0.1.0 python pipelines/trains.py", "there is no"),
        ("docker run neural-photo-editor-gateway:0.1.0 --conf a", "has no --conf"),
        ("docker run --entrypoint npe neural-photo-editor-gateway:0.1.0 info -x", "npe refuses"),
        ("kubectl apply -k k8s/trainings", "there is no kustomization"),
        ("kubectl create -f k8s/workflow/runs.yaml", "there is no file"),
        ("kubectl wait job/npe-dem", "no manifest has the name npe-dem"),
        ("for a in b c; do npe show $a; done", "npe refuses"),
        ("pyton pipelines/train.py", "pyton is not a program that is known here"),
    ],
)
def test_a_wrong_command_is_found(command: str, wrong: str) -> None:
    (found,) = problems(command)
    assert wrong in found


def test_commands_are_found_where_they_stand() -> None:
    page = (
        "text\n\n    npe info   # why\n    not a command\n\n"
        "```bash\npython a.py \\\n    b=c # d\n\nexport X=1\n```\n\n```yaml\nnpe: x\n```\n"
    )
    assert list(commands_in_markdown(page)) == [
        "python a.py b=c # d",
        "export X=1",
        "npe info   # why",
    ]
    header = "# What.\n#   make serve\n#   some list\nkey: value\n#   make test\n"
    assert list(commands_in_header(header)) == ["make serve"]
