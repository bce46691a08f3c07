"""Which licenses an alias may stand for, and whether it needs the gate. Needs no torch."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neural_photo_editor.artifacts.names import first_problem

PRODUCTION = "production"
NOT_STATED = ("", "none", "n/a", "na", "noassertion", "not-stated", "unknown", "other", "custom")
"""What stands where a license should, as `_plain` writes it; the first is no license at all."""


class AliasRule(BaseModel):
    """What must hold before an alias names a version.

    Patterns are those of shells, such as "*-NC-*"; case does not count, and spaces and underscores
    are hyphens, in patterns and in licenses.

    Attributes:
        allowed: every license matches one of these; None: any.
        refused: no license matches one of these.
        unknown: whether a part may be without a stated license; by default only for aliases other
            than ``production``. It decides alone on those, whatever `allowed` says.
        requires_gate: a bundle needs a passed comparison with what the alias names now.
        recipes_digest, rules_digest: the comparison was made of these edits and by these rules, as
            ``gate.json`` names them; None: of any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    unknown: Literal["allow", "refuse"] | None = None
    requires_gate: bool = False
    recipes_digest: str | None = None
    rules_digest: str | None = None


class Policy(BaseModel):
    """Content of a policy file.

    Attributes:
        aliases: alias -> its rule; any other alias has none, but ``production`` refuses licenses
            that are not stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    aliases: dict[str, AliasRule] = {}

    def rule(self, alias: str) -> AliasRule:
        return self.aliases.get(alias, AliasRule())

    def refusals(self, alias: str, part: str, licenses: tuple[str, ...]) -> list[str]:
        """Return why a part may not go into an alias: the part, the license and the rule.

        Args:
            part: in words, such as ``denoiser ddpm_128@3``.
            licenses: of the part, in any spelling.
        """
        rule = self.rule(alias)
        unknown = rule.unknown or ("refuse" if alias == PRODUCTION else "allow")
        found = []
        for license in licenses or ("",):
            name = _plain(license)
            said = f"{part} is under {license!r}" if name else f"{part} states no license"
            if name in NOT_STATED:
                if unknown == "refuse":
                    found.append(f"{said} (rule {alias}.unknown: refuse)")
                continue
            if pattern := _match(name, rule.refused):
                found.append(f"{said} (rule {alias}.refused: {pattern!r})")
            elif rule.allowed is not None and not _match(name, rule.allowed):
                found.append(f"{said} (rule {alias}.allowed: {', '.join(rule.allowed) or 'none'})")
        return found


def load_policy(file: Path) -> Policy:
    """Read a policy file.

    Raises:
        ValueError: it is missing, no YAML, or has unknown fields; names the field.
    """
    import yaml  # Late: only promotion needs it.

    try:
        return Policy.model_validate(yaml.safe_load(file.read_bytes()))
    except FileNotFoundError as error:
        raise ValueError(f"there is no policy {file}: name one with --policy FILE") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file} is not valid: {first_problem(error)}") from error


def _match(name: str, patterns: tuple[str, ...]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, _plain(pattern))), None)


def _plain(license: str) -> str:
    """Return a license or a pattern in lower case, with a hyphen for every gap."""
    return re.sub(r"[\s_]+", "-", license.strip().lower())
