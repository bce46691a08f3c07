"""What a preparation of shards took, kept in spite of a defect and left out, as a table of text."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from neural_photo_editor.data.shard_manifest import FileNote, ShardManifest, Split

MAX_REASONS = 20  # lines per table; a data set of nothing but odd files stays readable


def log_summary(manifest: ShardManifest) -> str:
    """Return the summary for the log: samples by split, and files kept and skipped by reason.

    Numbers inside a reason count as one ("measures # x # pixels"), so that a reason is a line,
    not a line per file; the manifest lists every file with its own words.
    """
    rows = [(f"taken, {split}", manifest.num_samples(split)) for split in get_args(Split)]
    rows = [row for row in rows if row[1]]
    num_taken = sum(count for _, count in rows)
    num_unlabeled = sum(len(shard.unlabeled) for shard in manifest.shards)
    rows.append(("of them without a label map", num_unlabeled))
    rows += _count_reasons("of them kept though", manifest.notes)
    near = sum(len(group) for group in manifest.near_duplicates)
    if near:
        groups = len(manifest.near_duplicates)
        rows.append((f"of them near-duplicates of each other, in {groups:,} groups", near))
    rows.append(("skipped", len(manifest.skipped)))
    rows += _count_reasons("skipped:", manifest.skipped)
    rows.append(("offered", num_taken + len(manifest.skipped)))
    width = max(len(f"{count:,}") for _, count in rows)
    return "\n".join(f"{count:>{width},}  {what}" for what, count in rows)


def _count_reasons(title: str, files: Sequence[FileNote]) -> list[tuple[str, int]]:
    """Return a line and a count per kind of reason, the most frequent first."""
    counts = Counter(re.sub(r"\b\d+(?:[.,]\d+)*", "#", file.reason) for file in files)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(f"  {title} {reason}", count) for reason, count in ranked[:MAX_REASONS]]
    rest = ranked[MAX_REASONS:]
    if rest:
        rows.append((f"  {title} {len(rest)} other reasons", sum(count for _, count in rest)))
    return rows
