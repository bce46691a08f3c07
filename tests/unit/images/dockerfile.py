"""Reads the Dockerfile: its stages, and what containers of a final stage would be like."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TARGETS = ("train", "torchserve", "gateway")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        base: another stage, or an image.
        own: its instructions in order, as keyword and the rest of the line.
        parent: the stage that it continues.
    """

    base: str
    parent: "Stage | None"
    own: list[tuple[str, str]] = field(default_factory=list)

    @property
    def instructions(self) -> list[tuple[str, str]]:
        """All that apply, those of the stages before it first."""
        return [*(self.parent.instructions if self.parent else []), *self.own]

    def all(self, keyword: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == keyword]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets; what it takes from build arguments and from the base image is left out."""
        pairs = [pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest)]
        return {name: re.sub(r"\$\{?\w+\}?", "", value) for name, value in pairs}

    @property
    def entry_point(self) -> list[str]:
        words: list[str] = json.loads(self.all("ENTRYPOINT")[-1])
        return words

    @property
    def health_command(self) -> list[str] | None:
        said = self.all("HEALTHCHECK")[-1]
        return None if said == "NONE" else json.loads(said.partition("CMD ")[2])


def read_dockerfile() -> dict[str, Stage]:
    """Return the stages by name."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in filter(None, joined.splitlines()):
        keyword, rest = re.split(r"\s+", line, maxsplit=1)
        if keyword == "FROM":
            base, _, name = rest.split()
            current = stages[name] = Stage(base, stages.get(base))
        elif current is not None:
            current.own.append((keyword, re.sub(r"\s+", " ", rest)))
    return stages
