"""The cached artefact: what it holds, its bytes, its key, its refusals."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry._duplicates import near_duplicates
from rela_zoo.selection.geometry._geometry import (
    Geometry,
    KeyParts,
    Kind,
    geometry,
    geometry_path,
    load_geometry,
    positions_digest,
    save_geometry,
    transport_digest,
)
from rela_zoo.transport import fit_transport

N, D = 60, 4
PARTS = KeyParts("aa" * 32, "bb" * 32, "cc" * 32, rows=N, dims=D, cells=5, seed=3)
POINTS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
KINDS: list[tuple[Kind, KeyParts]] = [
    ("clusters", PARTS), ("centres", PARTS), ("duplicates", replace(PARTS, threshold=0.9))
]  # fmt: skip


def never() -> np.ndarray:
    raise AssertionError("rows were read though the file was there")


class TestGeometry:
    @pytest.mark.parametrize(("kind", "parts"), KINDS)
    def test_is_computed_once(self, kind: Kind, parts: KeyParts, tmp_path: Path, said: Any) -> None:
        calls: list[int] = []
        first = geometry(kind, points=lambda: (calls.append(1), POINTS)[1], key_parts=parts, cache=tmp_path)
        assert len(calls) == 1
        assert len(said) == (2 if kind == "duplicates" else 1)
        again = geometry(kind, points=never, key_parts=parts, cache=tmp_path)
        assert len(said) == (2 if kind == "duplicates" else 1)
        for name in ("labels", "distances", "centroids", "groups"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert first.kind == again.kind == kind
        own = np.linalg.norm(POINTS - first.centroids[first.labels], axis=1)
        np.testing.assert_allclose(first.distances, own, rtol=1e-4, atol=1e-6)

    def test_duplicates_share_the_file_of_their_clusters(self, tmp_path: Path, said: Any) -> None:
        clusters = geometry("clusters", points=lambda: POINTS, key_parts=PARTS, cache=tmp_path)
        said.clear()
        parts = replace(PARTS, threshold=0.9)
        found = geometry("duplicates", points=lambda: POINTS, key_parts=parts, cache=tmp_path)
        assert len(said) == 1
        np.testing.assert_array_equal(found.labels, clusters.labels)
        assert found.groups is not None
        every = np.linalg.norm(POINTS[:, None] - clusters.centroids[None], axis=2)
        np.testing.assert_array_equal(found.groups, near_duplicates(POINTS, every.argsort(1)[:, :2], 0.9))
        assert len(list(tmp_path.iterdir())) == 2

    def test_duplicates_in_a_single_cluster(self, tmp_path: Path) -> None:
        parts = replace(PARTS, cells=1, threshold=0.9)
        found = geometry("duplicates", points=lambda: POINTS, key_parts=parts, cache=tmp_path)
        assert found.groups is not None
        np.testing.assert_array_equal(found.groups, near_duplicates(POINTS, np.zeros(N, int), 0.9))

    def test_goes_among_the_artefacts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path))
        geometry("centres", points=lambda: POINTS, key_parts=PARTS)
        assert geometry_path("centres", PARTS).parent == tmp_path / "artefacts" / "selection"
        assert geometry_path("centres", PARTS).is_file()

    def test_points_of_another_shape(self, tmp_path: Path) -> None:
        for wrong in (POINTS[1:], POINTS[:, 1:], POINTS.astype(np.float64)):
            with pytest.raises(EmbeddingsError, match="not those of the key"):
                geometry("clusters", points=lambda wrong=wrong: wrong, key_parts=PARTS, cache=tmp_path)  # type: ignore[misc]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("kind", "threshold"), [("clusters", 0.9), ("duplicates", None), ("balls", None)])
    def test_what_there_is_not(self, kind: Any, threshold: float | None, tmp_path: Path) -> None:
        with pytest.raises(EmbeddingsError, match="can't be made"):
            geometry(kind, points=never, key_parts=replace(PARTS, threshold=threshold), cache=tmp_path)

    @pytest.mark.parametrize("at", ["fsync", "replace"])
    def test_an_interruption_leaves_no_file(self, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(os, at, interrupted)
            with pytest.raises(KeyboardInterrupt):
                geometry("clusters", points=lambda: POINTS, key_parts=PARTS, cache=tmp_path)
        assert list(tmp_path.iterdir()) == []
        geometry("clusters", points=lambda: POINTS, key_parts=PARTS, cache=tmp_path)
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EmbeddingsError, match="can't be used for clusters"):
            geometry("clusters", points=lambda: POINTS, key_parts=PARTS, cache=tmp_path / "file")


class TestKey:
    def test_golden(self) -> None:
        path = geometry_path("duplicates", replace(PARTS, threshold=0.95), Path("x"))
        assert path.name == "3e78333c1d4a0a969b6646e4324022a96e4a8f988fad4a016883b3f0943c01dc.safetensors"

    def test_holds_everything(self) -> None:
        changes: list[dict[str, Any]] = [
            {"table": "dd"}, {"transport": "dd"}, {"positions": "dd"}, {"rows": 61}, {"dims": 3}, {"cells": 4},
            {"seed": 4}, {"threshold": 0.5},
        ]  # fmt: skip
        assert {next(iter(change)) for change in changes} == set(vars(PARTS))
        paths = {geometry_path("clusters", replace(PARTS, **change), Path("x")) for change in changes}
        paths |= {geometry_path(kind, PARTS, Path("x")) for kind in ("clusters", "centres")}
        assert len(paths) == len(changes) + 2

    def test_digests(self) -> None:
        positions = np.array([2, 0, 1])
        assert positions_digest(positions) == positions_digest(positions.astype(np.int32))
        assert positions_digest(positions) != positions_digest(positions[::-1])
        draws = torch.Generator().manual_seed(0)
        one, other = (fit_transport(torch.randn(50, 6, generator=draws)) for _ in range(2))
        same = replace(one, scale=one.scale * 2)
        assert transport_digest(one, 4) == transport_digest(same, 4)
        assert len({transport_digest(one, 4), transport_digest(one, 5), transport_digest(other, 4)}) == 3


class TestFile:
    FOUND = Geometry(
        "duplicates",
        np.array([0, 1, 0], np.int32),
        np.array([0.5, 0, 0.25], np.float32),
        np.array([[1, 2], [3, 4]], np.float32),
        np.array([0, 1, 0], np.int32),
    )
    PARTS = KeyParts("aa", "bb", "cc", rows=3, dims=2, cells=2, seed=0, threshold=0.9)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        save_geometry(tmp_path / "g.safetensors", self.FOUND, self.PARTS)
        return tmp_path / "g.safetensors"

    def test_golden_bytes(self, path: Path) -> None:
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        metadata = json.loads(header.pop("__metadata__")["rela_zoo"])
        assert metadata.pop("made_by").startswith("rela-zoo ")
        assert metadata == {
            "format": "rela-zoo-selection-geometry",
            "format_version": 1,
            "kind": "duplicates",
            "table": "aa",
            "transport": "bb",
            "positions": "cc",
            "rows": 3,
            "dims": 2,
            "cells": 2,
            "seed": 0,
            "threshold": 0.9,
        }
        assert header == {
            "centroids": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "distances": {"dtype": "F32", "shape": [3], "data_offsets": [16, 28]},
            "groups": {"dtype": "I32", "shape": [3], "data_offsets": [28, 40]},
            "labels": {"dtype": "I32", "shape": [3], "data_offsets": [40, 52]},
        }
        assert content[8 + length :] == struct.pack("<7f6i", 1, 2, 3, 4, 0.5, 0, 0.25, 0, 1, 0, 0, 1, 0)

    def test_round_trip(self, path: Path) -> None:
        again = load_geometry(path, "duplicates", self.PARTS)
        for name in ("labels", "distances", "centroids", "groups"):
            np.testing.assert_array_equal(getattr(again, name), getattr(self.FOUND, name))
            assert getattr(again, name).dtype == getattr(self.FOUND, name).dtype

    @pytest.mark.parametrize("change", [{"table": "other"}, {"seed": 1}, {"rows": 4}, {"threshold": 0.95}])
    def test_of_another_data_set(self, path: Path, change: dict[str, Any]) -> None:
        with pytest.raises(EmbeddingsError, match="not the geometry") as caught:
            load_geometry(path, "duplicates", replace(self.PARTS, **change))
        assert caught.value.expected == change

    def test_of_another_kind(self, path: Path) -> None:
        with pytest.raises(EmbeddingsError, match="not the geometry"):
            load_geometry(path, "clusters", self.PARTS)

    def test_damaged(self, path: Path) -> None:
        content = path.read_bytes()
        for cut in (0, 4, 8, 40, len(content) - 1):
            path.write_bytes(content[:cut])
            with pytest.raises(EmbeddingsError, match="damaged") as caught:
                load_geometry(path, "duplicates", self.PARTS)
            assert "delete this file" in str(caught.value.fix)
        with pytest.raises(EmbeddingsError, match="damaged"):
            load_geometry(path.with_name("none"), "duplicates", self.PARTS)

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("labels", np.array([0, 2, 0], np.int32)),
            ("labels", np.array([0, -1, 0], np.int32)),
            ("labels", np.array([0, 1, 0], np.int64)),
            ("labels", np.array([0, 1], np.int32)),
            ("groups", np.array([0, 3, 0], np.int32)),
            ("distances", np.array([0, np.nan, 0], np.float32)),
            ("centroids", np.zeros((2, 3), np.float32)),
            ("centroids", np.zeros((3, 2), np.float32)),
            ("centroids", np.zeros(4, np.float32)),
        ],
    )
    def test_impossible_arrays(self, path: Path, name: str, values: np.ndarray) -> None:
        save_geometry(path, replace(self.FOUND, **{name: values}), self.PARTS)
        with pytest.raises(EmbeddingsError, match="can't be"):
            load_geometry(path, "duplicates", self.PARTS)
