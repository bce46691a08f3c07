"""Commands that documents and manifests show, and what would refuse them.

A command is a list of words. `problems` runs nothing: it asks the parsers, Hydra and the files that
the command would meet.
"""

import ast
import functools
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.distributed.run import get_args_parser

from neural_photo_editor.cli.command import _parser

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN_MODULE = "neural_photo_editor.training.torchrun"
# Programs of others: what they are told about our files is checked, the rest is their business.
FOREIGN = {
    "argo", "base64", "cat", "cd", "curl", "export", "grpcurl", "helm", "kind", "openssl", "pip",
    "sha256sum", "source", "wandb",
}  # fmt: skip
_OUR_IMAGE = re.compile(r"[\w./-]*neural-photo-editor-\w+:")
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )?(?:python|npe|make|torchrun|srun|kubectl|docker|argo|helm|kind)\b"
)


def commands_in_markdown(text: str) -> Iterator[str]:
    """Yield the commands of a page: bash blocks, and indented lines of our programs."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        yield from _logical_lines(block.splitlines())
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for block in re.findall(r"(?:^    .*\n)+", rest, flags=re.MULTILINE):
        lines = _logical_lines([line[4:] for line in block.splitlines()])
        yield from (line for line in lines if _PROGRAM.match(line))


def commands_in_header(text: str) -> Iterator[str]:
    """Yield the commands of a YAML file's first comment: its lines that are indented by three."""
    header = re.match(r"(?:#.*\n)*", text)
    assert header is not None
    lines = [line[4:] for line in header[0].splitlines() if line.startswith("#   ")]
    yield from (line for line in _logical_lines(lines) if _PROGRAM.match(line))


def problems(command: str) -> list[str]:
    """Return what is wrong with a line of shell; nothing for lines that only explain usage."""
    if re.search(r"\[[-A-Z][^\]]*\]|\[fields\]| \| (?:registry|shards)", command):
        return []
    inner = re.findall(r"\$\(([^()]*)\)", command)
    return [
        problem
        for line in [command, *inner]
        for words in _simple_commands(line)
        for problem in command_problems(words)
    ]


def command_problems(words: Sequence[str]) -> list[str]:
    """Return what is wrong with one program's call."""
    if not words or words[0] in FOREIGN:
        return []
    check = _CHECKS.get(words[0])
    if check is None:
        return [f"{words[0]} is not a program that is known here"]
    return check(list(words[1:]))


def _logical_lines(lines: Sequence[str]) -> Iterator[str]:
    """Join what a backslash or an open quotation continues."""
    waiting = ""
    for line in lines:
        text = f"{waiting} {line.strip()}" if waiting else line.strip()
        if text.endswith("\\"):
            waiting = text[:-1].strip()
            continue
        waiting = ""
        try:
            shlex.split(text, comments=True)
        except ValueError:
            waiting = text
            continue
        if text and not text.startswith("#"):
            yield text


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Split a line at the shell's operators, without variables, redirections and keywords."""
    line = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line)
    line = re.sub(r"\s{2,}[a-z].*", "", line) if not line.startswith("curl") else line
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";|&"):
            while words and (words[0] in ("do", "done", "then") or re.match(r"\w+=", words[0])):
                words = words[1:]
            if words and words[0] != "for":
                yield words
            words = []
        elif skip or set(word) <= set("<>"):
            skip = not skip
        else:
            words.append(word)


def _python(words: list[str]) -> list[str]:
    if words[0] == "-m":
        module, rest = words[1], words[2:]
        if module == TORCHRUN_MODULE:
            return _torchrun(rest)
        if module == "pytest":
            paths = [word for word in rest if not word.startswith("-")]
            return [f"there is no {path}" for path in paths if not (ROOT / path).exists()]
        files = [Path(*module.split(".")), Path("src", *module.split("."))]
        found = [f for base in files for f in (base.with_suffix(".py"), base / "__main__.py")]
        file = next((file for file in found if (ROOT / file).is_file()), None)
        return [f"there is no module {module}"] if file is None else _own_flags(file, rest)
    return _script(words[0], words[1:])


def _torchrun(words: list[str]) -> list[str]:
    try:
        options = get_args_parser().parse_args(words)
    except SystemExit:
        return [f"torchrun refuses {' '.join(words)}"]
    return _script(options.training_script, options.training_script_args)


def _script(script: str, words: list[str]) -> list[str]:
    file = Path(script)
    if not (ROOT / file).is_file():
        return [f"there is no file {script}"]
    if file.parent.name == "pipelines":
        config = {"demo": "demo", "wandb_sweep": "train"}.get(file.stem, file.stem)
        if (ROOT / "conf" / f"{config}.yaml").is_file():
            return list(_composition(config, tuple(words)))
    return _own_flags(file, words)


@functools.cache
def _composition(config: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what Hydra says of the overrides, and which values they leave open."""
    placeholders = {"source=NAME": "source=celeba"}
    if "..." in words:  # The rest is the reader's.
        return ()
    overrides = [placeholders.get(word, word) for word in words if word != "-m"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose(config, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        return (f"Hydra refuses {' '.join(words)}: {error}",)
    missing = sorted(OmegaConf.missing_keys(cfg))
    return (f"{' '.join(words)} leaves {missing} open",) if missing else ()


@functools.cache
def _flags(file: Path) -> frozenset[str]:
    """Return the strings of a program that look like a flag."""
    tree = ast.parse((ROOT / file).read_text())
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return frozenset(c for c in constants if isinstance(c, str) and re.fullmatch(r"--?[\w-]+", c))


def _own_flags(file: Path, words: Sequence[str]) -> list[str]:
    given = [word.partition("=")[0] for word in words if word.startswith("-")]
    return [f"{file} has no {flag}" for flag in given if flag not in _flags(file)]


def _npe(words: list[str]) -> list[str]:
    try:
        _parser().parse_args([word for word in words if word != "..."])
    except SystemExit as ended:
        return [] if ended.code == 0 else [f"npe refuses {' '.join(words)}"]
    return []


def _make(words: list[str]) -> list[str]:
    text = (ROOT / "Makefile").read_text()
    targets = [word for word in words if "=" not in word]
    return [
        f"make has no target {target}"
        for target in targets
        if not re.search(rf"^{target}:.*## ", text, flags=re.MULTILINE)
    ]


def _docker(words: list[str]) -> list[str]:
    stages = set(re.findall(r" AS ([\w-]+)", (ROOT / "Dockerfile").read_text()))
    targets = [value for flag, value in pairwise(words) if flag == "--target"]
    found = [
        f"the Dockerfile has no target {target}"
        for target in targets
        if target not in stages and not target.startswith("$")
    ]
    image = next((n for n, word in enumerate(words) if _OUR_IMAGE.match(word)), None)
    if words[0] != "run" or image is None:
        return found
    name, rest = words[image], words[image + 1 :]
    entries = [[value] for flag, value in pairwise(words[:image]) if flag == "--entrypoint"]
    for part, module in (("-torchserve:", "serve.worker"), ("-gateway:", "serve.gateway")):
        if part in name and not entries:
            entries.append(["python", "-m", module])
    return found + command_problems([*(entries[0] if entries else []), *rest])


def _kubectl(words: list[str]) -> list[str]:
    """Folders and files of ours are there, and so is what is named as KIND/NAME or KIND NAME."""
    found = []
    for flag, value in pairwise(words):
        if flag == "-k" and not (ROOT / value / "kustomization.yaml").is_file():
            found.append(f"there is no kustomization {value}")
        if flag == "-f" and value.endswith(".yaml") and not (ROOT / value).is_file():
            found.append(f"there is no file {value}")
    if words[0] == "kustomize" and not (ROOT / words[1] / "kustomization.yaml").is_file():
        found.append(f"there is no kustomization {words[1]}")
    for word in words:
        match = re.fullmatch(r"(job|trainjob|deployment|service|svc|statefulset)/([\w-]+)", word)
        if match and match[2] not in _object_names():
            found.append(f"no manifest has the name {match[2]}")
    return found


@functools.cache
def _object_names() -> frozenset[str]:
    names = set()
    for file in (ROOT / "k8s").rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if isinstance(document, dict) and "metadata" in document:
                names.add(document["metadata"].get("name"))
            if isinstance(document, dict) and "nameSuffix" in document:
                names |= {f"{name}{document['nameSuffix']}" for name in list(names) if name}
    return frozenset(filter(None, names))


_CHECKS: dict[str, Callable[[list[str]], list[str]]] = {
    "python": _python,
    "torchrun": _torchrun,
    "srun": lambda words: command_problems(words),
    "npe": _npe,
    "make": _make,
    "docker": _docker,
    "kubectl": _kubectl,
}
