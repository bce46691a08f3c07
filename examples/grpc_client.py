"""Recolor a region of a photo over gRPC, with a preview that grows clearer.

    export NPE_API_KEY=npe_...
    python -m examples.grpc_client portrait.png edited.png

Runs in the checkout, whose generated code it uses; other languages generate theirs from
serve/gateway/protos/editor.proto. Writes edited.preview.webp while the edit is made, then the edit.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import grpc

from serve.gateway.protos import editor_pb2, editor_pb2_grpc


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--address", default="127.0.0.1:8082")
    parser.add_argument("--region", default="hair")
    parser.add_argument("--color", default="#8a3ffc")
    options = parser.parse_args()
    request = editor_pb2.EditRequest(
        photo=options.photo.read_bytes(), regions=[options.region], color=options.color
    )
    key = os.environ.get("NPE_API_KEY")
    metadata = [("x-api-key", key)] if key else []
    # Photos are larger than the 4 MB that a channel receives by default.
    large = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(options.address, options=large) as channel:
        editor = editor_pb2_grpc.EditorStub(channel)
        try:
            for event in editor.EditStream(request, metadata=metadata, timeout=120):
                if event.WhichOneof("event") == "progress":
                    step = event.progress
                    print(f"step {step.step} of {step.total_steps}")
                    options.out.with_suffix(".preview.webp").write_bytes(step.preview)
                else:
                    options.out.write_bytes(event.result.images[0])
                    print("seed", json.loads(event.result.metadata_json)["seed"])
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            problem = json.loads(trailing.get("x-npe-problem", "{}"))
            sys.stderr.write(f"{error.code().name}: {problem.get('detail', error.details())}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
