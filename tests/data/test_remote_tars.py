"""Tars where they lie: a web server, fsspec's memory, the Hub; indexed once, images read by range."""

from __future__ import annotations

import pickle
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rela_zoo.data import image_source, is_there
from rela_zoo.data._tars import TarSource
from rela_zoo.embeddings import embed
from rela_zoo.errors import EmbeddingsError

from .test_tars import samples, write_tar


class Web:
    """A web server with Range and ETag; counts what it sends."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True) -> None:
        self.files, self.ranges = files, ranges
        self.requests: list[tuple[str, str, str]] = []
        self.sent = 0
        # What it says of a part that it sends, the truth if it is empty, and by how much the part is wrong.
        self.said: str | None = ""
        self.shift = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _answer(self) -> None:
                wanted = self.headers.get("Range", "")
                web.requests.append((self.command, self.path, wanted))
                data = web.files.get(self.path.partition("?")[0])
                status = 404 if data is None else 200
                data = data or b""
                match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if web.ranges else None
                self.send_response(206 if match else status)
                self.send_header("ETag", f'"{hash(data)}"')
                self.send_header("Accept-Ranges", "bytes" if web.ranges else "none")
                if match:
                    start, stop = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
                    other = start + web.shift
                    facts = {"other": other, "stop": stop + web.shift, "size": stop - start, "all": len(data)}
                    said = f"bytes {start}-{stop}/{len(data)}" if web.said == "" else web.said
                    if said is not None:
                        self.send_header("Content-Range", said.format(**facts))
                    data = data[other : stop + web.shift + 1]
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    web.sent += len(data)
                    self.wfile.write(data)

            do_GET = do_HEAD = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tars(tmp_path: Path, make_pictures: Any) -> Path:
    """Three tars of four images each."""
    stack = make_pictures(12)
    for number in range(3):
        write_tar(tmp_path / "tars" / f"{number:03d}.tar", samples(stack[4 * number : 4 * number + 4], 4 * number))
    return tmp_path / "tars"


@pytest.fixture
def web(tars: Path) -> Iterator[Web]:
    server = Web({f"/d/{path.name}": path.read_bytes() for path in tars.iterdir()})
    yield server
    server.stop()


def same(found: TarSource, local: TarSource, order: Any = (11, 0, 1, 2, 3, 4, 9)) -> None:
    assert list(found.ids) == list(local.ids)
    assert list(found.labels or ()) == list(local.labels or ())
    assert [found.raw(i) for i in order] == [local.raw(i) for i in order]
    assert found.probe() == local.probe()


def test_a_web_server_gives_what_the_folder_gives(web: Web, tars: Path) -> None:
    found, local = image_source(web.url + "/d/{000..002}.tar"), image_source(tars)
    same(found, local)
    before = len(web.requests)
    same(pickle.loads(pickle.dumps(found)), local)
    after = [wanted for _, _, wanted in web.requests[before:]]
    assert after
    assert all(after), "parts alone"
    assert is_there(web.url + "/d/{000..002}.tar")


def test_the_index_is_made_once_for_a_version(web: Web, tars: Path, make_pictures: Any) -> None:
    address = web.url + "/d/000.tar"
    first = image_source(address)
    stamps = first.stamps()
    before = len(web.requests)
    assert list(image_source(Path(address)).ids) == list(first.ids), "also of a path that has lost a slash"
    assert [method for method, _, _ in web.requests[before:]] == ["HEAD"]
    web.files["/d/000.tar"] = write_tar(tars / "other.tar", samples(make_pictures(5))).read_bytes()
    assert len(image_source(address)) == 5
    assert image_source(address).stamps().values[0, 1] != stamps.values[0, 1]
    assert first.stamps().values.tolist() == stamps.values.tolist(), "what was exchanged later is not what was read"
    web.files["/d/000.tar"] = web.files["/d/000.tar"][:1000]
    with pytest.raises(EmbeddingsError, match=r"(?s)000.tar (is damaged.*exchanged|can't be read)"):
        first.raw(3)


def test_images_in_order_come_several_at_once_and_others_alone(tmp_path: Path, make_pictures: Any) -> None:
    data = write_tar(tmp_path / "a.tar", samples(make_pictures(60))).read_bytes()
    server = Web({"/a.tar": data})
    try:
        source = image_source(server.url + "/a.tar")
        before = len(server.requests)
        pictures = [source.raw(i) for i in range(60)]
        assert len(server.requests) - before == 3  # the first alone, then 32 and the rest
        server.sent = 0
        assert [source.raw(i) for i in (50, 10, 40)] == [pictures[i] for i in (50, 10, 40)]
        assert server.sent == sum(len(pictures[i]) for i in (10, 40))
    finally:
        server.stop()


def test_what_is_no_image_and_large_is_skipped(tmp_path: Path, make_pictures: Any) -> None:
    members = []
    for name, data in samples(make_pictures(3), labels=False):
        members += [(name, data), (name.replace("png", "npy"), bytes(12 << 20))]
    server = Web({"/a.tar": write_tar(tmp_path / "a.tar", members).read_bytes()})
    try:
        assert len(image_source(server.url + "/a.tar")) == 3
        assert server.sent < 20 << 20, "of 36 MB"
    finally:
        server.stop()


def test_a_split_is_what_the_names_say(web: Web) -> None:
    for path in ("/d/000.tar", "/d/001.tar"):
        web.files[f"/e/train{path[2:]}"] = web.files[path]
        web.files[f"/e/test{path[2:]}"] = web.files["/d/002.tar"]
    assert len(image_source(web.url + "/e/train/{000..001}.tar?x=test", split="train")) == 8
    both = web.url + "/e/{train,test}/000.tar"
    assert list(image_source(both, split="test").ids) == list(image_source(web.url + "/d/002.tar").ids)
    for address in ("/e/train/{000..001}.tar?x=test", "/d/000.tar"):
        with pytest.raises(EmbeddingsError, match="no split 'test'"):
            image_source(web.url + address, split="test")


def test_a_server_that_sends_whole_files_is_refused(web: Web) -> None:
    web.ranges = False
    with pytest.raises(EmbeddingsError, match=r"(?s)000.tar can't be read in parts.*answers requests with a Range"):
        image_source(web.url + "/d/000.tar").raw(0)


def test_an_empty_tar_is_said(web: Web, tmp_path: Path) -> None:
    web.files["/d/none.tar"] = b""
    with pytest.raises(EmbeddingsError, match=r"(?s)none.tar is damaged or cut short"):
        image_source(web.url + "/d/none.tar")


@pytest.mark.parametrize("said", ["bytes {other}-{stop}/{all}", "bytes 1-{size}/{all}", None])
def test_other_bytes_than_those_asked_for_are_refused(web: Web, said: str | None) -> None:
    source = image_source(web.url + "/d/{000..001}.tar")
    web.said, web.shift = said, 512
    with pytest.raises(EmbeddingsError, match=r"(?s)000.tar can't be read in parts.*were asked for"):
        source.raw(1)
    web.said, web.shift = "", 0
    assert source.raw(1) == image_source(web.url + "/d/000.tar").raw(1)
    web.said, web.shift = said, 512
    with pytest.raises(EmbeddingsError, match=r"(?s)002.tar can't be read in parts.*were asked for"):
        image_source(web.url + "/d/002.tar").raw(1)


def test_an_address_is_said_without_its_secrets(web: Web) -> None:
    address = web.url + "/d/{000..002}.tar?signature=secret" + "x" * 2000
    source = image_source(address)
    assert is_there(address)
    assert len(source) == 12
    assert "secret" not in source.describe()
    for wrong in ("/d/{000..003}.tar?signature=secret", "/d/?signature=secret", "/d/*.tar?signature=secret"):
        with pytest.raises(EmbeddingsError) as caught:
            image_source(web.url + wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(EmbeddingsError, match="can't be read") as caught:
        image_source("http://127.0.0.1:9/a.tar?signature=secret")  # nobody listens there
    assert "secret" not in str(caught.value)


def test_memory_patterns_and_file_addresses(tars: Path) -> None:
    files = fsspec.filesystem("memory")
    for path in tars.iterdir():
        files.pipe_file(f"/there/{path.name}", path.read_bytes())
    try:
        local = image_source(tars)
        for address in ("memory://there/*.tar", "memory://there/{000..002}.tar", f"file://{tars}/*.tar"):
            same(image_source(address), local)
        assert image_source(f"file://{tars}").ids == local.ids, "whatever a path may name"
        with pytest.raises(EmbeddingsError, match=r"nothing at memory://there/003\.tar"):
            image_source("memory://there/{002..003}.tar")
        with pytest.raises(EmbeddingsError, match="nothing at memory://nowhere"):
            image_source("memory://nowhere/*.tar")
    finally:
        files.rm("/there", recursive=True)


def test_an_address_that_nothing_reads(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingsError, match=r"(?s)nonsense://bucket/a.tar can't be read.*nonsense"):
        image_source("nonsense://bucket/a.tar")
    with pytest.raises(EmbeddingsError, match=r"(?s)WebDataset tars.*s3://bucket/pictures"):
        image_source("s3://bucket/pictures")


def test_tars_of_the_hub_that_are_named_are_not_fetched(hub: Any, tars: Path, tmp_path: Path) -> None:
    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()  # it keeps the address of another test's server
    commit = hub.store.add("org/tars", {f"d/{path.name}": path.read_bytes() for path in tars.iterdir()}, kind="dataset")
    same(image_source(f"hf://datasets/org/tars@{commit}/d/{{000..002}}.tar"), image_source(tars))
    assert not (tmp_path / "hf" / "hub" / "datasets--org--tars" / "blobs").exists()
    same(image_source(f"hf://datasets/org/tars@{commit}/d"), image_source(tars))
    before = len(hub.calls("/resolve/"))
    same(image_source(f"hf://datasets/org/tars@{commit}/d/{{000..002}}.tar"), image_source(tars))
    assert len(hub.calls("/resolve/")) == before, "what was fetched is read where it lies"


def test_embeddings_are_those_of_the_folder(web: Web, tars: Path, tmp_path: Path, make_prior: Any) -> None:
    prior = make_prior()
    near = embed(prior, str(tars), tmp_path / "near", progress=False)
    far = embed(prior, web.url + "/d/{000..002}.tar", tmp_path / "far", num_workers=2, batch_size=3, progress=False)
    assert far.digest == near.digest


def test_a_damaged_header_is_said(tmp_path: Path, make_pictures: Any) -> None:
    data = bytearray(write_tar(tmp_path / "a.tar", samples(make_pictures(3))).read_bytes())
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        at = tar.getmembers()[3].offset
    data[at + 148 : at + 156] = b"00000000"
    files = fsspec.filesystem("memory")
    files.pipe_file("/bad.tar", bytes(data))
    with pytest.raises(EmbeddingsError, match=r"(?s)memory://bad.tar is damaged"):
        image_source("memory://bad.tar")
    files.rm("/bad.tar")
