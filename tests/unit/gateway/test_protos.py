"""The generated code is that of editor.proto."""

import re
import sys
from pathlib import Path
from subprocess import run

REPOSITORY = Path(__file__).resolve().parents[3]
PROTOS = Path("serve/gateway/protos")
GENERATED = ("editor_pb2.py", "editor_pb2.pyi", "editor_pb2_grpc.py")
_VERSION = re.compile(
    r"(# Protobuf Python Version: |GRPC_GENERATED_VERSION = )\S+|Domain\.PUBLIC,[\s\d,]+"
)


def generate(proto_root: Path, out: Path) -> None:
    outs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        *outs,
        str(PROTOS / "editor.proto"),
    ]
    run(command, cwd=proto_root, check=True)


def without_version(file: Path) -> str:
    """Return a generated file but for the tool's versions in it."""
    return _VERSION.sub("", file.read_text())


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    generate(REPOSITORY, tmp_path)
    for name in GENERATED:
        assert without_version(tmp_path / PROTOS / name) == without_version(
            REPOSITORY / PROTOS / name
        ), f"run the command at the top of editor.proto: {name} differs"


def test_a_changed_proto_would_be_noticed(tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    (changed / PROTOS).mkdir(parents=True)
    text = (REPOSITORY / PROTOS / "editor.proto").read_text()
    (changed / PROTOS / "editor.proto").write_text(
        text.replace("string blend = 15", "string b = 15")
    )
    generate(changed, tmp_path)
    for name in GENERATED[:2]:
        assert without_version(tmp_path / PROTOS / name) != without_version(
            REPOSITORY / PROTOS / name
        )
