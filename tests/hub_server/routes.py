"""The calls of the Hub's API that the client makes, one function each."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import yaml

from hub_server.store import WRITE, Blob, Commit, HubError, Repo, Token, is_large

if TYPE_CHECKING:
    from hub_server.server import HubServer

_DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Request:
    hub: HubServer
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    token: Token | None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


_Route = Callable[..., Response]
_ROUTES: list[tuple[str, re.Pattern[str], _Route]] = []


def _route(method: str, pattern: str) -> Callable[[_Route], _Route]:
    def register(function: _Route) -> _Route:
        _ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def answer(request: Request) -> Response:
    """Find the function of a request. Parts of the path are unquoted after it is split, so a revision may hold `/`."""
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and wanted == method:
            return function(request, **{key: unquote(value or "") for key, value in match.groupdict().items()})
    raise HubError(404, None, f"no route {request.method} {request.path}")


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode())


_ID = r"(?P<repo>[^/]+/[^/]+)"
_API = r"/api/(?P<kind>model|dataset)s/" + _ID


@_route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Response:
    if request.token is None:
        raise HubError(401, None, "Invalid username or password.")
    token = request.token
    access = {"accessToken": {"displayName": "test", "role": token.role}}
    return _json(
        {
            "type": "user",
            "name": token.user,
            "orgs": [{"type": "org", "name": one} for one in token.orgs],
            "auth": access,
        }
    )


@_route("POST", "/api/repos/create")
def create(request: Request) -> Response:
    wanted = request.json()
    kind = wanted.get("type") or "model"
    owner = wanted.get("organization") or (request.token.user if request.token else "?")
    repo_id = f"{owner}/{wanted['name']}"
    request.hub.store.may_write(repo_id, request.token)
    url = request.hub.url + ("/datasets/" if kind == "dataset" else "/") + repo_id
    with request.hub.store.lock:
        if (kind, repo_id) in request.hub.store.repos:
            return Response(409, json.dumps({"error": "You already created this repo", "url": url}).encode())
        request.hub.store.create(
            repo_id, kind, private=bool(wanted.get("private") or wanted.get("visibility") == "private")
        )
    return _json({"url": url, "name": repo_id, "id": repo_id})


@_route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Response:
    content = request.json()["content"]
    match = re.match(r"\A(?:﻿)?---[ \t]*\n(.*?)\n---", content, re.DOTALL)
    if match is None:
        return _json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        card = yaml.safe_load(match.group(1)) or {}
    except yaml.YAMLError as error:
        return _json({"errors": [{"message": f"not YAML: {error}"}], "warnings": []}, 400)
    checks = {
        "license": str,
        "library_name": str,
        "pipeline_tag": str,
        "tags": list,
        "datasets": list,
        "model-index": list,
    }
    errors = [
        {"message": f'"{key}" must be a {"string" if wanted is str else "list"}'}
        for key, wanted in checks.items()
        if key in card and not isinstance(card[key], wanted) and not (wanted is list and isinstance(card[key], str))
    ]
    return _json({"errors": errors, "warnings": []}, 400 if errors else 200)


def _sibling(path: str, blob: Blob) -> dict[str, Any]:
    facts: dict[str, Any] = {"rfilename": path, "blobId": blob.oid, "size": len(blob.data)}
    if blob.large:
        facts["lfs"] = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return facts


def _info(repo: Repo, commit: Commit, blobs: bool = False) -> dict[str, Any]:
    card = repo.card(commit)
    return {
        "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.oid,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": repo.labels(commit),
        "cardData": card,
        "library_name": card.get("library_name"),
        "pipeline_tag": card.get("pipeline_tag"),
        "createdAt": _DATE,
        "lastModified": _DATE,
        "siblings": [
            _sibling(path, blob) if blobs else {"rfilename": path} for path, blob in sorted(commit.files.items())
        ],
    }


@_route("GET", _API + r"(?:/revision/(?P<revision>[^/]+))?")
def info(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.visible(kind, repo, request.token)
    return _json(_info(found, found.resolve(revision), blobs="blobs" in request.query))


@_route("GET", r"/api/(?P<kind>model|dataset)s")
def listing(request: Request, kind: str) -> Response:
    wanted = set(request.query.get("filter", []))
    search = (request.query.get("search") or [""])[0].lower()
    author = (request.query.get("author") or [""])[0]
    found = []
    for (of, repo_id), repo in sorted(request.hub.store.repos.items()):
        owner = repo_id.split("/")[0]
        if of != kind or (repo.private and not (request.token and owner in (request.token.user, *request.token.orgs))):
            continue
        if wanted <= set(repo.labels(repo.head)) and search in repo_id.lower() and author in ("", owner):
            found.append(_info(repo, repo.head))
    return _json(found[: int((request.query.get("limit") or ["1000"])[0])])


def _entry(path: str, blob: Blob, xet: bool = False) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
        if xet:
            entry["xetHash"] = blob.sha256
    return entry


@_route("GET", _API + r"/tree/(?P<revision>[^/]+)(?:/(?P<below>.+))?")
def tree(request: Request, kind: str, repo: str, revision: str, below: str) -> Response:
    commit = request.hub.store.readable(kind, repo, request.token).resolve(revision)
    prefix = f"{below}/" if below else ""
    inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
    if below and not inside:
        raise HubError(404, "EntryNotFound", f"{below} does not exist on {revision}")
    recursive = (request.query.get("recursive") or ["false"])[0].lower() == "true"
    entries, folders = [], set()
    for path, blob in sorted(inside.items()):
        parents = path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if recursive or depth == 1:
                folders.add(prefix + "/".join(parents[:depth]))
        if recursive or not parents:
            entries.append(_entry(path, blob, request.hub.xet))
    made = [
        {"type": "directory", "path": one, "oid": hashlib.sha1(one.encode()).hexdigest()} for one in sorted(folders)
    ]
    return _json([*made, *entries])


@_route("POST", _API + r"/paths-info/(?P<revision>[^/]+)")
def paths_info(request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = request.hub.store.readable(kind, repo, request.token).resolve(revision)
    sent = request.headers.get("Content-Type", "")
    if "json" in sent:
        paths = request.json()["paths"]
    else:
        from urllib.parse import parse_qs

        paths = parse_qs(request.body.decode()).get("paths", [])
    return _json([_entry(path, commit.files[path]) for path in paths if path in commit.files])


@_route("GET", _API + "/refs")
def refs(request: Request, kind: str, repo: str) -> Response:
    found = request.hub.store.visible(kind, repo, request.token)

    def listed(named: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in named.items()]

    answer = {
        "branches": listed(found.branches, "refs/heads/"),
        "tags": listed(found.tags, "refs/tags/"),
        "converts": [],
    }
    if "include_prs" in request.query:
        answer["pullRequests"] = listed(found.pulls, "")
    return _json(answer)


@_route("GET", _API + r"/commits/(?P<revision>[^/]+)")
def commits(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.visible(kind, repo, request.token)
    at: str | None = found.resolve(revision).oid
    out = []
    while at:
        one = found.commits[at]
        out.append({"id": one.oid, "title": one.title, "message": "", "date": _DATE, "authors": []})
        at = one.parent
    return _json(out)


@_route("POST", _API + r"/tag/(?P<revision>[^/]+)")
def tag(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.writable(kind, repo, request.token)
    name = request.json()["tag"]
    with request.hub.store.lock:
        if name in found.tags:
            raise HubError(409, None, f"Tag {name} exists already")
        found.tags[name] = found.resolve(revision).oid
    return _json({})


@_route("DELETE", _API + r"/tag/(?P<name>[^/]+)")
def untag(request: Request, kind: str, repo: str, name: str) -> Response:
    found = request.hub.store.writable(kind, repo, request.token)
    if found.tags.pop(name, None) is None:
        raise HubError(404, "RevisionNotFound", f"no tag {name}")
    return _json({})


def _for_upload(request: Request, kind: str, repo: str) -> Repo:
    """Anybody with a write token may open a pull request; a commit needs rights to the repository."""
    if "create_pr" in request.query or b'"refs/pr/' in request.body:
        if request.token is None or request.token.role != WRITE:
            raise HubError(403 if request.token else 401, None, "a token with write access is needed")
        return request.hub.store.readable(kind, repo, request.token)
    return request.hub.store.writable(kind, repo, request.token)


@_route("POST", _API + r"/preupload/(?P<revision>[^/]+)")
def preupload(request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = _for_upload(request, kind, repo).resolve(revision)
    files = []
    for one in request.json()["files"]:
        known = commit.files.get(one["path"])
        mode = "lfs" if is_large(one["path"], one["size"]) else "regular"
        oid = None if known is None else known.sha256 if known.large else known.oid
        files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})})
    return _json({"files": files})


@_route("POST", r"/(?:(?P<prefix>datasets)/)?" + _ID + r"\.git/info/lfs/objects/batch")
def lfs_batch(request: Request, prefix: str, repo: str) -> Response:
    wanted = request.json()
    if request.token is None or request.token.role != WRITE:
        raise HubError(403 if request.token else 401, None, "a token with write access is needed")
    request.hub.store.visible("dataset" if prefix else "model", repo, request.token)
    objects = []
    for one in wanted["objects"]:
        entry: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] not in request.hub.store.large:
            entry["actions"] = {
                "upload": {"href": f"{request.hub.cdn_url}/upload/{one['oid']}?size={one['size']}", "header": {}},
                "verify": {"href": f"{request.hub.url}/lfs-verify", "header": {}},
            }
        objects.append(entry)
    return _json({"transfer": "basic", "objects": objects})


@_route("PUT", r"/upload/(?P<oid>[0-9a-f]{64})")
def lfs_put(request: Request, oid: str) -> Response:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, None, f"the body is not {oid}")
    request.hub.store.large[oid] = request.body
    return Response(200, b"", {"ETag": f'"{oid}"'})


@_route("POST", "/lfs-verify")
def lfs_verify(request: Request) -> Response:
    wanted = request.json()
    data = request.hub.store.large.get(wanted["oid"])
    if data is None or len(data) != wanted["size"]:
        raise HubError(404, None, f"{wanted['oid']} was not uploaded whole")
    return _json({"success": True})


@_route("POST", _API + r"/commit/(?P<revision>[^/]+)")
def commit(request: Request, kind: str, repo: str, revision: str) -> Response:
    store = request.hub.store
    found = _for_upload(request, kind, repo)
    header: dict[str, Any] = {}
    with store.lock:
        base = found.resolve(revision)
        files = dict(base.files)
        for line in request.body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "header":
                header = value
            elif one["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif one["key"] == "lfsFile":
                if value["oid"] not in store.large:
                    raise HubError(400, None, f"the large file of {value['path']} was not uploaded")
                files[value["path"]] = Blob(store.large[value["oid"]], True)
            elif one["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif one["key"] == "deletedFolder":
                inside = value["path"].rstrip("/") + "/"
                files = {path: blob for path, blob in files.items() if not path.startswith(inside)}
        parent = header.get("parentCommit")
        if parent and base.oid != parent:
            raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
        number = len(found.pulls) + 1
        pull = "create_pr" in request.query
        ref = f"refs/pr/{number}" if pull else revision
        made = found.commit(files, header.get("summary", ""), ref, base.oid)
    url = request.hub.url + ("/datasets/" if kind == "dataset" else "/") + repo
    extra = {"pullRequestUrl": f"{url}/discussions/{number}"} if pull else {}
    return _json({"success": True, "commitOid": made.oid, "commitUrl": f"{url}/commit/{made.oid}", **extra})


@_route("GET", r"/(?:(?P<prefix>datasets)/)?" + _ID + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(request: Request, prefix: str, repo: str, revision: str, path: str) -> Response:
    found = request.hub.store.readable("dataset" if prefix else "model", repo, request.token)
    at = found.resolve(revision)
    headers = {"X-Repo-Commit": at.oid, "Accept-Ranges": "bytes"}
    blob = at.files.get(path)
    if blob is None:
        message = f"{path} does not exist on {revision}"
        body = json.dumps({"error": message}).encode()
        return Response(404, body, {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": message})
    if blob.large:
        request.hub.store.large.setdefault(blob.sha256, blob.data)
        linked = {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))}
        return Response(
            302, b"", {**headers, **linked, "Location": f"{request.hub.cdn_url}/cdn/{blob.sha256}?signed=1"}
        )
    return _ranged(request, blob.data, {**headers, "ETag": f'"{blob.oid}"'})


@_route("GET", r"/cdn/(?P<oid>[0-9a-f]{64})")
def cdn(request: Request, oid: str) -> Response:
    if request.headers.get("Authorization"):
        raise HubError(400, None, "a token was sent to another host")
    data = request.hub.store.large.get(oid)
    if data is None:
        raise HubError(404, None, "no such object")
    return _ranged(request, data, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


def _ranged(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    headers = {**headers, "Content-Type": "application/octet-stream"}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if match is None:
        return Response(200, data, headers)
    start, stop = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
    if start >= len(data):
        raise HubError(416, None, "range not satisfiable")
    return Response(206, data[start : stop + 1], {**headers, "Content-Range": f"bytes {start}-{stop}/{len(data)}"})
