"""``npe registry``: list, show, compare, fetch and promote artifacts and bundles.

Needs no torch; a registry in an object store needs the extra "registry" and "s3" or "gcs", and
promoting needs the extra "registry".
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from neural_photo_editor.cli.shards import EXIT_FILE, EXIT_OK

EXIT_REFUSED = 3
DEFAULT_REGISTRY = "outputs/registry"
DEFAULT_POLICY = Path("conf/policy.yaml")


def add_registry_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``registry list|show|diff|pull|promote|rollback|gc`` to the command line."""
    registry = commands.add_parser("registry", help="list, compare, fetch and promote bundles")
    actions = registry.add_subparsers(dest="action", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--registry",
        default=os.environ.get("NPE_REGISTRY") or DEFAULT_REGISTRY,
        metavar="DIR",
        help="folder, s3://... or gs://... (default: $NPE_REGISTRY, else %(default)s)",
    )

    def add(
        action: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        parser = actions.add_parser(action, parents=[shared], help=text)
        parser.set_defaults(run=run)
        return parser

    listed = add("list", _list, "names, versions and aliases")
    listed.add_argument("name", nargs="?", help="only this one, with the history of its aliases")
    shown = add("show", _show, "where a version comes from, as a tree")
    shown.add_argument("reference", metavar="REF", help="such as neural_photo_editor@production")
    compared = add("diff", _diff, "what differs between two versions")
    compared.add_argument("first", metavar="REF")
    compared.add_argument("second", metavar="REF")
    pulled = add("pull", _pull, "fetch a bundle's archive, verified")
    pulled.add_argument("reference", metavar="REF", help="also NAME@sha256:DIGEST of the archive")
    pulled.add_argument("--to", type=Path, required=True, metavar="DIR", help="receives the .mar")
    promoted = add("promote", _promote, "point an alias at a version, if the policy lets it")
    promoted.add_argument("reference", metavar="REF")
    promoted.add_argument("alias", help="such as production, canary or candidate")
    promoted.add_argument(
        "--policy", type=Path, default=DEFAULT_POLICY, metavar="FILE", help="default: %(default)s"
    )
    promoted.add_argument("--gate", type=Path, metavar="FILE", help="gate.json, or its folder")
    promoted.add_argument("--reason", help="for the history")
    rolled = add("rollback", _rollback, "point an alias at the version before; again: further back")
    rolled.add_argument("name")
    rolled.add_argument("alias")
    rolled.add_argument("--reason", help="for the history")
    collected = add("gc", _collect, "list, or delete, versions that nobody needs")
    collected.add_argument("--keep", type=int, default=3, metavar="N", help="newest (%(default)s)")
    collected.add_argument("--delete", action="store_true", help="delete them, not only list")


def run_registry(options: argparse.Namespace) -> int:
    """Run ``npe registry`` and return its exit status."""
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"npe: a package is absent ({error.name}): "
            "pip install 'neural-photo-editor[registry]'\n"
        )
    except (ValueError, OSError) as error:
        from neural_photo_editor.artifacts.promotion import PromotionError

        sys.stderr.write(f"npe: {error}\n")
        return EXIT_REFUSED if isinstance(error, PromotionError) else EXIT_FILE
    return EXIT_FILE


# The library is imported late: `npe edit` starts without it.
def _list(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts import registry as registries

    names = [options.name] if options.name else registries.list_names(options.registry)
    for name in names:
        versions = registries.list_versions(options.registry, name)
        if not versions:
            raise ValueError(f"there is no artifact {name!r} in {options.registry}")
        aliases = registries.list_aliases(options.registry, name)
        said = ", ".join(f"{alias} = {version}" for alias, version in aliases.items())
        count = f"{len(versions)} version{'s' if len(versions) > 1 else ''}"
        sys.stdout.write(f"{name}: {count} up to {versions[-1]}; {said or 'no alias'}\n")
        for alias in aliases if options.name else ():
            for change in registries.list_changes(options.registry, name, alias):
                was = "new" if change.from_version is None else f"{change.from_version}"
                who = f" by {change.by}" if change.by else ""
                why = f": {change.reason}" if change.reason else ""
                sys.stdout.write(
                    f"  {change.time} {alias} {was} -> {change.to_version} "
                    f"({change.action}{who}){why}\n"
                )
    return EXIT_OK


def _show(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.description import describe_version

    sys.stdout.write("\n".join(describe_version(options.registry, options.reference)) + "\n")
    return EXIT_OK


def _diff(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.comparison import compare_versions

    lines = compare_versions(options.registry, options.first, options.second)
    sys.stdout.write("\n".join(lines or ["both are the same"]) + "\n")
    return EXIT_OK


def _pull(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.archive import fetch_bundle

    archive = fetch_bundle(options.registry, options.reference, options.to)
    sys.stdout.write(f"{archive}\n")
    return EXIT_OK


def _promote(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.mirror import mirror_alias
    from neural_photo_editor.artifacts.policy import load_policy
    from neural_photo_editor.artifacts.promotion import promote
    from neural_photo_editor.artifacts.registry import newest_change

    name, version = promote(
        options.registry,
        options.reference,
        options.alias,
        policy=load_policy(options.policy),
        gate=options.gate,
        reason=options.reason,
    )
    mirror_alias(name, options.alias, version)
    _, change = newest_change(options.registry, name, options.alias)
    repeated = change is not None and change.from_version == change.to_version
    said = "already; asked again" if repeated else "now"
    sys.stdout.write(f"{name}@{options.alias} is version {version} {said}\n")
    return EXIT_OK


def _rollback(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.mirror import mirror_alias
    from neural_photo_editor.artifacts.registry import rollback

    change = rollback(options.registry, options.name, options.alias, reason=options.reason)
    mirror_alias(options.name, options.alias, change.to_version)
    sys.stdout.write(
        f"{options.name}@{options.alias} is version {change.to_version} now, "
        f"was {change.from_version}\n"
    )
    return EXIT_OK


def _collect(options: argparse.Namespace) -> int:
    from neural_photo_editor.artifacts.garbage import delete_garbage, find_garbage

    collect = delete_garbage if options.delete else find_garbage
    garbage = collect(options.registry, keep_newest=options.keep)
    said = "deleted" if options.delete else "not needed"
    found = [f"{name}@{version}" for name, version in garbage.versions] + garbage.abandoned
    sys.stdout.write("".join(f"{said}: {line}\n" for line in found) or "everything is needed\n")
    return EXIT_OK
