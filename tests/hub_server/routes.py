"""The calls of the Hub's API that the client makes to read and to manage, one function each."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import yaml

from hub_server.routing import API, ID, Request, Response, as_json, route
from hub_server.store import Blob, Commit, HubError, Repo

_DATE = "2026-01-01T00:00:00.000Z"


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Response:
    if request.token is None:
        raise HubError(401, None, "Invalid username or password.")
    token = request.token
    access = {"accessToken": {"displayName": "test", "role": token.role}}
    return as_json(
        {
            "type": "user",
            "name": token.user,
            "orgs": [{"type": "org", "name": one} for one in token.orgs],
            "auth": access,
        }
    )


@route("POST", "/api/repos/create")
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
    return as_json({"url": url, "name": repo_id, "id": repo_id})


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Response:
    content = request.json()["content"]
    match = re.match(r"\A(?:﻿)?---[ \t]*\n(.*?)\n---", content, re.DOTALL)
    if match is None:
        return as_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        card = yaml.safe_load(match.group(1)) or {}
    except yaml.YAMLError as error:
        return as_json({"errors": [{"message": f"not YAML: {error}"}], "warnings": []}, 400)
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
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


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


@route("GET", API + r"(?:/revision/(?P<revision>[^/]+))?")
def info(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.visible(kind, repo, request.token)
    return as_json(_info(found, found.resolve(revision), blobs="blobs" in request.query))


@route("GET", r"/api/(?P<kind>model|dataset)s")
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
    return as_json(found[: int((request.query.get("limit") or ["1000"])[0])])


def _entry(path: str, blob: Blob, xet: bool = False) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
        if xet:
            entry["xetHash"] = blob.sha256
    return entry


@route("GET", API + r"/tree/(?P<revision>[^/]+)(?:/(?P<below>.+))?")
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
    return as_json([*made, *entries])


@route("POST", API + r"/paths-info/(?P<revision>[^/]+)")
def paths_info(request: Request, kind: str, repo: str, revision: str) -> Response:
    commit = request.hub.store.readable(kind, repo, request.token).resolve(revision)
    sent = request.headers.get("Content-Type", "")
    if "json" in sent:
        paths = request.json()["paths"]
    else:
        from urllib.parse import parse_qs

        paths = parse_qs(request.body.decode()).get("paths", [])
    return as_json([_entry(path, commit.files[path]) for path in paths if path in commit.files])


@route("GET", API + "/refs")
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
    return as_json(answer)


@route("GET", API + r"/commits/(?P<revision>[^/]+)")
def commits(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.visible(kind, repo, request.token)
    at: str | None = found.resolve(revision).oid
    out = []
    while at:
        one = found.commits[at]
        out.append({"id": one.oid, "title": one.title, "message": "", "date": _DATE, "authors": []})
        at = one.parent
    return as_json(out)


@route("POST", API + r"/tag/(?P<revision>[^/]+)")
def tag(request: Request, kind: str, repo: str, revision: str) -> Response:
    found = request.hub.store.writable(kind, repo, request.token)
    name = request.json()["tag"]
    with request.hub.store.lock:
        if name in found.tags:
            raise HubError(409, None, f"Tag {name} exists already")
        found.tags[name] = found.resolve(revision).oid
    return as_json({})


@route("DELETE", API + r"/tag/(?P<name>[^/]+)")
def untag(request: Request, kind: str, repo: str, name: str) -> Response:
    found = request.hub.store.writable(kind, repo, request.token)
    if found.tags.pop(name, None) is None:
        raise HubError(404, "RevisionNotFound", f"no tag {name}")
    return as_json({})


@route("GET", r"/(?:(?P<prefix>datasets)/)?" + ID + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
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


@route("GET", r"/cdn/(?P<oid>[0-9a-f]{64})")
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
