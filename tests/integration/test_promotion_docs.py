"""What docs/promotion.md shows and says is what the programs take and what the rules are."""

import base64
import json
import re
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.recipe import read_recipe
from neural_photo_editor.evaluation.gate_rules import TITLES, GateRules

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "promotion.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_recipe_can_be_read() -> None:
    (block,) = _blocks("json")
    document = json.loads(block)
    photo = encode_png(np.zeros((16, 16, 3), np.uint8))
    document["request"]["photo"] = base64.b64encode(photo).decode()
    assert read_recipe(json.dumps(document).encode()).request.color == "#c2571f"


def test_the_table_names_every_measure_and_its_tolerance() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        rules = GateRules.model_validate(dict(compose("promote", ["candidate=a"]).rules))
    rows = re.findall(r"^\| (`\w+`.*?) \| (.*) \|$", TEXT, flags=re.MULTILINE)
    said = {name: text for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(said) == set(TITLES)
    for metric, tolerance in rules.tolerances.items():
        shown = {"network_calls": "at all", "seconds": f"{1 + tolerance}"}.get(
            metric, f"{tolerance:g}"
        )
        assert shown in said[metric], metric
    always = {"drift", "changed_outside", "failed", "refused_by_both", "not_compared"}
    assert set(rules.tolerances) | always == set(TITLES)
