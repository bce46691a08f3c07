"""Make a W&B workspace of conf/panels.yaml: ``python pipelines/wandb_panels.py --entity NAME``.

Needs the extra "dashboards" and a key in WANDB_API_KEY.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PANELS = Path(__file__).resolve().parents[1] / "conf" / "panels.yaml"
STEP = "trainer/global_step"


def workspace(spec: Mapping[str, Any], *, entity: str, project: str, name: str) -> Any:
    """Return the workspace, not yet saved.

    Args:
        spec: content of conf/panels.yaml.
        entity: W&B's user or team.
        project: its project.
        name: of the view.
    """
    from wandb_workspaces import workspaces

    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            workspaces.Section(
                name=section["name"],
                panels=[_panel(panel) for panel in section["panels"]],
                is_open=section.get("open", False),
            )
            for section in spec["sections"]
        ],
        settings=workspaces.WorkspaceSettings(x_axis=STEP),
    )


def _panel(panel: Mapping[str, Any]) -> Any:
    from wandb_workspaces.reports import v2 as reports

    if "media" in panel:
        return reports.MediaBrowser(title=panel["title"], media_keys=list(panel["media"]))
    return reports.LinePlot(
        title=panel["title"],
        x=STEP,
        y=list(panel.get("metrics", ())),
        metric_regex=panel.get("pattern"),
        log_y=panel.get("log", False),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entity", required=True, help="W&B's user or team")
    parser.add_argument("--project", default="neural-photo-editor")
    parser.add_argument("--name", default="Training", help="of the view in W&B")
    arguments = parser.parse_args()
    if not os.environ.get("WANDB_API_KEY"):  # W&B would ask for one.
        raise SystemExit("wandb_panels: set WANDB_API_KEY, without it nothing can be saved")
    spec = yaml.safe_load(PANELS.read_text())
    view = workspace(
        spec, entity=arguments.entity, project=arguments.project, name=arguments.name
    ).save()
    sys.stdout.write(f"{view.url}\n")


if __name__ == "__main__":
    main()
