"""The calls of the Hub's API by which the client sends files."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from hub_server.routing import API, ID, Request, Response, as_json, route
from hub_server.store import WRITE, Blob, HubError, Repo, is_large


def _for_upload(request: Request, kind: str, repo: str) -> Repo:
    """Anybody with a write token may open a pull request; a commit needs rights to the repository."""
    if "create_pr" in request.query or b'"refs/pr/' in request.body:
        if request.token is None or request.token.role != WRITE:
            raise HubError(403 if request.token else 401, None, "a token with write access is needed")
        return request.hub.store.readable(kind, repo, request.token)
    return request.hub.store.writable(kind, repo, request.token)


@route("POST", API + r"/preupload/(?P<revision>[^/]+)")
def preupload(request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = _for_upload(request, kind, repo).resolve(revision)
    files = []
    for one in request.json()["files"]:
        known = commit.files.get(one["path"])
        mode = "lfs" if is_large(one["path"], one["size"]) else "regular"
        oid = None if known is None else known.sha256 if known.large else known.oid
        files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})})
    return as_json({"files": files})


@route("POST", r"/(?:(?P<prefix>datasets)/)?" + ID + r"\.git/info/lfs/objects/batch")
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
    return as_json({"transfer": "basic", "objects": objects})


@route("PUT", r"/upload/(?P<oid>[0-9a-f]{64})")
def lfs_put(request: Request, oid: str) -> Response:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, None, f"the body is not {oid}")
    request.hub.store.large[oid] = request.body
    return Response(200, b"", {"ETag": f'"{oid}"'})


@route("POST", "/lfs-verify")
def lfs_verify(request: Request) -> Response:
    wanted = request.json()
    data = request.hub.store.large.get(wanted["oid"])
    if data is None or len(data) != wanted["size"]:
        raise HubError(404, None, f"{wanted['oid']} was not uploaded whole")
    return as_json({"success": True})


@route("POST", API + r"/commit/(?P<revision>[^/]+)")
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
    return as_json({"success": True, "commitOid": made.oid, "commitUrl": f"{url}/commit/{made.oid}", **extra})
