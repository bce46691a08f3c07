"""The part of W&B's service that its client needs to log runs and artifacts and to move aliases."""
# ruff: noqa: N802, N803 - operations are named as W&B names them

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY, PROJECT = "somebody", "neural-photo-editor"


class WandbServer:
    """What was logged: the files by digest, which artifact every alias names, each run's rows."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.aliases: dict[tuple[str, str], int] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.fails_at: str | None = None
        self.num_requests = 0
        self.lock = threading.Lock()

    def aliases_of(self, number: int) -> set[str]:
        return {alias for (_, alias), target in self.aliases.items() if target == number}

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        do = getattr(self, operation, None)
        with self.lock:
            return do(**given) if do else {}

    def Viewer(self) -> dict[str, Any]:
        return {
            "viewer": {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
            | {"teams": {"edges": []}}
        }

    def GetDefaultEntity(self) -> dict[str, Any]:
        return {"viewer": {"id": "u", "entity": ENTITY}}

    def RunResumeStatus(self, name: str, **given: Any) -> dict[str, Any]:
        rows = self.history.get(name)
        if rows is None:
            return {"model": {"id": "p", "bucket": None}}
        tail = json.dumps([json.dumps(row) for row in rows[-1:]])
        bucket = {"id": "r", "name": name, "displayName": name, "config": "{}", "eventsTail": "[]"}
        bucket |= {"summaryMetrics": "{}", "historyTail": tail, "historyLineCount": len(rows)}
        bucket |= {"logLineCount": 0, "eventsLineCount": 0, "wandbConfig": '{"t": 1}', "tags": []}
        owner = {"id": "e", "name": ENTITY}
        return {"model": {"id": "p", "name": PROJECT, "entity": owner, "bucket": bucket}}

    Rows = RunResumeStatus

    def stream(self, run: str, given: dict[str, Any]) -> None:
        """Take what a run sends, its rows at the offset that it names."""
        with self.lock:
            rows = self.history.setdefault(run, [])
            for name, chunk in (given.get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    rows[chunk["offset"] :] = [json.loads(line) for line in chunk["content"]]
            if given.get("complete"):
                self.exit_codes[run] = given["exitcode"]

    def UpsertBucket(self, name: str, config: str = "{}", **given: Any) -> dict[str, Any]:
        self.configs[name] = self.configs.get(name, {}) | json.loads(config or "{}")
        project = {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
        bucket = {"id": "r", "name": name, "displayName": name, "description": "", "config": "{}"}
        bucket |= {"sweepName": None, "project": project, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def UpsertView2(self, displayName: str, spec: str, **given: Any) -> dict[str, Any]:
        self.views[displayName] = json.loads(spec)
        return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}

    def CreateRunFiles(self, files: list[str], **given: Any) -> dict[str, Any]:
        nodes = [{"name": name, "uploadUrl": f"{self.url}/run/{name}"} for name in files]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": nodes}}

    def ArtifactType(self, **given: Any) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def CreateArtifact(self, input: dict[str, Any]) -> dict[str, Any]:
        self.artifacts.append(input)
        number = len(self.artifacts)
        for alias in input["aliases"]:
            self.aliases[alias["artifactCollectionName"], alias["alias"]] = number
        sequence = {"latestArtifact": None}
        created = {"id": str(number), "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": created}}

    def CreateArtifactManifest(
        self,
        artifactID: str,
        includeUpload: bool,
        **given: Any,
    ) -> dict[str, Any]:
        file: dict[str, Any] = {"id": "f"}
        if includeUpload:
            file |= {"uploadUrl": f"{self.url}/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": artifactID, "file": file}}}

    def CreateArtifactFiles(self, input: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {"storagePath": file["name"], "uploadUrl": f"{self.url}/file/{file['name']}"}
            | {"uploadHeaders": [], "uploadMultipartUrls": None}
            | {"artifact": {"id": file["artifactID"]}}
            for file in input["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def CommitArtifact(self, artifactID: str, **given: Any) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": "d"}}}

    def ArtifactByID(self, id: str, **given: Any) -> dict[str, Any]:
        return {"artifact": self._artifact(int(id))}

    def ArtifactMembershipByName(self, name: str, **given: Any) -> dict[str, Any]:
        collection, _, alias = name.partition(":")
        number = self.aliases.get((collection, alias))
        if number is None:
            return {"project": {"artifactCollectionMembership": None}}
        artifact = self._artifact(number)
        membership = {"__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": 0}
        membership |= {"createdAt": artifact["createdAt"], "aliases": artifact["aliases"]}
        membership |= {"artifactCollection": self._collection(collection), "artifact": artifact}
        return {"project": {"artifactCollectionMembership": membership}}

    def AddAliases(self, input: dict[str, Any]) -> dict[str, Any]:
        for alias in input["aliases"]:
            number = int(input["artifactID"])
            self.aliases[alias["artifactCollectionName"], alias["alias"]] = number
        return {"addAliases": {"success": True}}

    def UpdateArtifact(self, input: dict[str, Any]) -> dict[str, Any]:
        return {"result": {"artifact": self._artifact(int(input["artifactID"]))}}

    def _artifact(self, number: int) -> dict[str, Any]:
        logged = self.artifacts[number - 1]
        collection = self._collection(logged["artifactCollectionName"])
        aliases = [
            {"__typename": "ArtifactAlias", "id": alias, "alias": alias}
            | {"artifactCollection": collection}
            for alias in sorted(self.aliases_of(number))
        ]
        return {
            "__typename": "Artifact",
            "id": str(number),
            "artifactSequence": {**collection, "__typename": "ArtifactSequence"},
            "versionIndex": number - 1,
            "artifactType": {"name": logged["artifactTypeName"]},
            "description": None,
            "metadata": logged["metadata"],
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": "1",
            "digest": logged["digest"],
            "commitHash": "c",
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "aliases": aliases,
        }

    def _collection(self, name: str) -> dict[str, Any]:
        project = {"id": "p", "internalId": "p", "name": PROJECT, "entity": {"name": ENTITY}}
        return {"__typename": "ArtifactSequence", "name": name, "project": project}


@contextmanager
def serve_wandb() -> Iterator[WandbServer]:
    """Listen on a free port of this machine."""
    wandb = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            wandb.num_requests += 1
            if wandb.fails_at == "everything":
                self.send_error(500)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path != "/graphql":
                if self.path.endswith("/file_stream"):
                    wandb.stream(self.path.split("/")[-2], json.loads(body))
                self._send({})
                return
            request = json.loads(body)
            match = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            assert match is not None
            if match[1] == wandb.fails_at:
                self.send_error(400)
                return
            self._send({"data": wandb.answer(match[1], request.get("variables") or {})})

        do_GET = do_POST  # noqa: N815

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            digest = base64.b64encode(hashlib.md5(body).digest()).decode()
            wandb.files[digest] = body
            self._send({})

        def _send(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: W&B's client drops connections when it is done."""

    server = Server(("127.0.0.1", 0), Handler)
    wandb.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield wandb
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
