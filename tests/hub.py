"""A server in place of the Hugging Face Hub: the part of its API that models come and go by.

Repositories live in memory, each commit as path -> bytes. As there, tensors go by Git LFS and the
rest in the commit itself, a name that is not there and one that is private answer alike, and files
come with the commit and the hash of their content.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: the one may write to `org/...`, both may read what is private there."""


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        listed = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items())
        told = json.dumps([self.branches.get(branch), message, listed, len(self.messages)])
        sha = hashlib.sha1(told.encode()).hexdigest()
        self.branches[branch], self.commits[sha] = sha, files
        self.messages.append(message)
        return sha

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.branches.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """What the server knows, what it was asked, and how it is to misbehave.

    Attributes:
        url: Of the server.
        repositories: By ORG/NAME.
        asked: (method, path) of all requests.
        tokens: That came with them.
        broken: Regular expression of "METHOD PATH" -> the status that it is answered with.
        stalls: Names of files of which half is sent, and then nothing.
        stalled: Set when one is.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    stalls: set[str] = field(default_factory=set)
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    lfs: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        """Lay down a repository with one commit on its main branch."""
        repository = self.repositories[name] = Repository(private=private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n", **files})
        return repository


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.hub.asked.append((self.command, path))
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        self.may_read, self.may_write = token in (WRITER, READER), token == WRITER
        if token:
            self.hub.tokens.add(token)
        for pattern, status in self.hub.broken.items():
            if re.fullmatch(pattern, f"{self.command} {path}"):
                return self._error(status, "broken on purpose")
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split():
                return answer(self, *found.groups())
        return self._error(404, "no such page")

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        name = unquote(self.path).rpartition("/")[2]
        if name in self.hub.stalls:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.ended.wait()
        else:
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"X_Error_Message": message, **({"X_Error_Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), **headers)

    def _repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.may_read):
            status = 404 if self.may_read else 401  # the same for what is not there
            self._error(status, "Repository not found", "RepoNotFound")
            return None
        return found

    def _at(self, name: str, revision: str) -> tuple[Repository, str, dict[str, bytes]] | None:
        if (repository := self._repository(name)) is None:
            return None
        if (found := repository.files(revision)) is None:
            self._error(404, "Invalid rev id", "RevisionNotFound")
            return None
        return (repository, *found)

    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self.may_write or asked["organization"] != "org":
            status, what = (403, "no rights") if self.may_read else (401, "who are you?")
            return self._error(status, what)
        if name in self.hub.repositories:
            return self._json({"url": f"{self.hub.url}/{name}", "error": "there already"}, 409)
        self.hub.add(name, {}, private=asked.get("visibility") == "private" or bool(
            asked.get("private")))  # fmt: skip
        return self._json({"url": f"{self.hub.url}/{name}"})

    def branch(self, name: str, branch: str) -> None:
        if (repository := self._repository(name)) is None:
            return
        if branch in repository.branches:
            return self._error(409, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def info(self, name: str, revision: str | None = None) -> None:
        if found := self._at(name, revision or "main"):
            repository, sha, files = found
            siblings = [{"rfilename": file} for file in files]
            about = {"id": name, "modelId": name, "sha": sha, "private": repository.private}
            self._json({**about, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, name: str, revision: str) -> None:
        if found := self._at(name, revision):
            self._json([
                {"type": "file", "path": file, "size": len(data), "oid": _blob(data)}
                for file, data in found[2].items()
            ])  # fmt: skip

    def preupload(self, name: str, revision: str) -> None:
        if found := self._at(name, revision):
            asked, answer = json.loads(self.body)["files"], []
            for file in asked:
                path = file["path"]
                large = path.endswith(".safetensors")
                told = {"path": path, "uploadMode": "lfs" if large else "regular",
                        "shouldIgnore": False}  # fmt: skip
                if path in found[2]:
                    data = found[2][path]
                    told["oid"] = hashlib.sha256(data).hexdigest() if large else _blob(data)
                answer.append(told)
            self._json({"files": answer})

    def batch(self, name: str) -> None:
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{one['oid']}"}
            objects.append({**one, "actions": {"upload": upload}})
        self._json({"objects": objects, "transfer": "basic"})

    def put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._error(400, "another content")
        self.hub.lfs[oid] = self.body
        self._send(200)

    def commit(self, name: str, revision: str) -> None:
        if not self.may_write:
            return self._error(403, "no rights")
        if (found := self._at(name, revision)) is None:
            return
        repository, sha, files = found
        header, *changes = (json.loads(line) for line in self.body.splitlines())
        if header["value"].get("parentCommit", sha) != sha:
            return self._error(412, "A commit has happened since")
        files = dict(files)
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            else:
                del files[value["path"]]
        made = repository.commit(revision, files, header["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{made}", "commitOid": made})

    def resolve(self, name: str, revision: str, file: str) -> None:
        if found := self._at(name, revision):
            if file not in found[2]:
                return self._error(404, "Entry not found", "EntryNotFound")
            data = found[2][file]
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            self._send(200, data, ETag=tag, X_Repo_Commit=found[1])


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    ("POST", "/api/validate-yaml", _Answers.validate),
    ("POST", "/api/repos/create", _Answers.create),
    ("POST", f"/api/models/{_NAME}/branch/(.+)", _Answers.branch),
    ("GET", f"/api/models/{_NAME}", _Answers.info),
    ("GET", f"/api/models/{_NAME}/revision/(.+)", _Answers.info),
    ("GET", f"/api/models/{_NAME}/tree/(.+)", _Answers.tree),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", _Answers.preupload),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", _Answers.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Answers.batch),
    ("PUT", "/lfs/([0-9a-f]+)", _Answers.put),
    ("GET HEAD", f"/{_NAME}/resolve/(.+)/([^/]+)", _Answers.resolve),
)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub on a free port of this machine."""
    hub = Hub()
    answers = type("Answers", (_Answers,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.ended.set()
            server.shutdown()
