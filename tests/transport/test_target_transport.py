"""The artefact: its bytes, its refusals, its call."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.errors import TransportError
from rela_zoo.transport import TargetTransport, TransportStats, fit_transport

STATS = TransportStats(5, (0.75, 0.25), "ab" * 32, "some-prior", "upstream")


@pytest.fixture
def transport() -> TargetTransport:
    """Three values to two: swaps the first two after removing the mean, divides by 2 and 0.5."""
    components = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    return TargetTransport(torch.tensor([1.0, 2.0, 3.0]), components, torch.tensor([2.0, 0.5]), STATS)


class TestCall:
    def test_by_hand(self, transport: TargetTransport) -> None:
        rows = torch.tensor([[1.0, 2.0, 9.0], [2.0, 6.0, 0.0]])
        assert transport(rows).tolist() == [[0.0, 0.0], [2.0, 2.0]]
        assert transport(rows, dim=1).tolist() == [[0.0], [2.0]]
        assert (transport.dim, transport.max_dim) == (3, 2)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_gives_float32(self, transport: TargetTransport, dtype: torch.dtype) -> None:
        assert transport(torch.ones(2, 3, dtype=dtype)).dtype == torch.float32

    def test_full_precision_under_autocast_and_no_gradient(self) -> None:
        rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        fitted = fit_transport(rows)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fitted(rows), fitted(rows.clone()))
            inside = fitted(rows)
        assert torch.equal(inside, fitted(rows))
        assert not fitted(rows.requires_grad_()).requires_grad

    @pytest.mark.parametrize("dim", [0, -1, 3])
    def test_dimensions_it_does_not_have(self, transport: TargetTransport, dim: int) -> None:
        with pytest.raises(TransportError, match="target dimension") as caught:
            transport(torch.ones(1, 3), dim)
        assert (caught.value.expected, caught.value.got) == ("1 to 2", dim)

    def test_rows_of_another_prior(self, transport: TargetTransport) -> None:
        for wrong in (torch.ones(1, 4), torch.ones(3)):
            with pytest.raises(TransportError, match="not those of the prior"):
                transport(wrong)

    def test_not_finite(self, transport: TargetTransport) -> None:
        with pytest.raises(TransportError, match="not finite"):
            transport(torch.tensor([[1.0, float("nan"), 0.0]]))

    def test_to_a_device(self, transport: TargetTransport) -> None:
        moved = transport.to(torch.device("cpu"))
        assert moved is not transport
        assert moved.stats == transport.stats
        assert torch.equal(moved(torch.ones(2, 3)), transport(torch.ones(2, 3)))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_on_a_gpu(self, transport: TargetTransport) -> None:
        rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        for used in (transport, transport.to("cuda")):
            assert used(rows.cuda()).device.type == "cuda"
            torch.testing.assert_close(used(rows.cuda()).cpu(), transport(rows))
        fitted = fit_transport(rows.cuda())
        assert fitted.mean.device.type == "cpu"
        torch.testing.assert_close(fitted(rows), fit_transport(rows)(rows), atol=1e-4, rtol=1e-4)

    def test_it_is_frozen(self, transport: TargetTransport) -> None:
        with pytest.raises(AttributeError):
            transport.mean = torch.zeros(3)  # type: ignore[misc]


class TestParts:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"mean": torch.zeros(2)}, "fit together"),
            ({"scale": torch.ones(3)}, "fit together"),
            ({"components": torch.ones(6)}, "fit together"),
            ({"components": torch.ones(3, 0), "scale": torch.ones(0)}, "fit together"),
            ({"stats": TransportStats(5, (1.0,))}, "fit together"),
            ({"mean": torch.tensor([1.0, float("nan"), 0.0])}, "mean .* not finite"),
            ({"scale": torch.tensor([1.0, 0.0])}, "not positive"),
            ({"scale": torch.tensor([1.0, float("inf")])}, "scale .* not finite"),
            ({"mean": torch.zeros(3, dtype=torch.float64)}, "wrong dtype"),
        ],
    )
    def test_are_checked(self, transport: TargetTransport, change: dict[str, Any], message: str) -> None:
        parts = {name: getattr(transport, name) for name in ("mean", "components", "scale", "stats")}
        with pytest.raises(TransportError, match=message):
            TargetTransport(**{**parts, **change})


class TestFile:
    def test_round_trip(self, transport: TargetTransport, tmp_path: Path) -> None:
        transport.save(tmp_path / "deep" / "t.safetensors")
        again = TargetTransport.load(tmp_path / "deep" / "t.safetensors")
        assert again.stats == transport.stats
        for name in ("mean", "components", "scale"):
            assert torch.equal(getattr(again, name), getattr(transport, name))
        assert [one.name for one in (tmp_path / "deep").iterdir()] == ["t.safetensors"]

    def test_a_fitted_one_survives_exactly(self, tmp_path: Path) -> None:
        fitted = fit_transport(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)))
        fitted.save(tmp_path / "t")
        assert TargetTransport.load(tmp_path / "t").stats == fitted.stats

    def test_golden_bytes(self, transport: TargetTransport, tmp_path: Path) -> None:
        transport.save(tmp_path / "t.safetensors")
        content = (tmp_path / "t.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        metadata = json.loads(header.pop("__metadata__")["rela_zoo"])
        assert metadata.pop("made_by").startswith("rela-zoo ")
        assert metadata == {
            "format": "rela-zoo-target-transport",
            "format_version": 1,
            "rows": 5,
            "source_digest": "ab" * 32,
            "prior": "some-prior",
            "preprocessing": "upstream",
        }
        assert header == {
            "components": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
            "explained_variance_ratio": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
            "mean": {"dtype": "F32", "shape": [3], "data_offsets": [32, 44]},
            "scale": {"dtype": "F32", "shape": [2], "data_offsets": [44, 52]},
        }
        values = [0, 1, 1, 0, 0, 0, 0.75, 0.25, 1, 2, 3, 2, 0.5]
        assert content[8 + length :] == struct.pack("<13f", *values)
        transport.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == content

    def test_truncated_or_none(self, transport: TargetTransport, tmp_path: Path) -> None:
        path = tmp_path / "t"
        transport.save(path)
        content = path.read_bytes()
        for cut in (0, 4, 8, 40, len(content) - 1):
            path.write_bytes(content[:cut])
            with pytest.raises(TransportError, match=r"cut short|truncated|does not hold"):
                TargetTransport.load(path)
        path.write_bytes(content + b"\0")
        with pytest.raises(TransportError, match="not of the size"):
            TargetTransport.load(path)
        path.write_bytes(struct.pack("<Q", 1 << 60) + content[8:])
        with pytest.raises(TransportError, match="cut short"):
            TargetTransport.load(path)
        for missing in (tmp_path / "none", tmp_path):
            with pytest.raises(TransportError, match="can't be read"):
                TargetTransport.load(missing)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format_version": 2}, "format version"),
            ({"format": "rela-zoo-embeddings"}, "another kind"),
            ({"rows": -1}, "number of rows"),
            ({"rows": "many"}, "number of rows"),
            ({"prior": ["x"]}, "malformed prior"),
        ],
    )
    def test_changed_metadata(self, transport: TargetTransport, tmp_path: Path, change: Any, message: str) -> None:
        transport.save(tmp_path / "t")
        rewrite(tmp_path / "t", lambda header, metadata: metadata.update(change))
        with pytest.raises(TransportError, match=message):
            TargetTransport.load(tmp_path / "t")

    @pytest.mark.parametrize(
        ("name", "tensor"),
        [
            ("mean", {"dtype": "F32", "shape": [1 << 40], "data_offsets": [32, 44]}),
            ("mean", {"dtype": "F32", "shape": [3, 1, 1], "data_offsets": [32, 44]}),
            ("mean", {"dtype": "F32", "shape": [4], "data_offsets": [32, 44]}),
            ("components", {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}),
            ("extra", {"dtype": "F32", "shape": [0], "data_offsets": [52, 52]}),
            ("mean", {"dtype": "F32", "shape": [3], "data_offsets": "no"}),
        ],
    )
    def test_headers_that_lie(self, transport: TargetTransport, tmp_path: Path, name: str, tensor: Any) -> None:
        transport.save(tmp_path / "t")
        rewrite(tmp_path / "t", lambda header, metadata: header.update({name: tensor}))
        with pytest.raises(TransportError):
            TargetTransport.load(tmp_path / "t")

    def test_impossible_variances(self, transport: TargetTransport, tmp_path: Path) -> None:
        transport.save(tmp_path / "t")
        content = (tmp_path / "t").read_bytes()
        (tmp_path / "t").write_bytes(content.replace(struct.pack("<2f", 0.75, 0.25), struct.pack("<2f", 0.75, 0.5)))
        with pytest.raises(TransportError, match="impossible explained variances"):
            TargetTransport.load(tmp_path / "t")

    def test_a_place_that_can_not_be_written(self, transport: TargetTransport, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(TransportError, match="can't be written"):
            transport.save(tmp_path / "file" / "t")


def rewrite(path: Path, change: Any) -> None:
    """Change the header of a file and put it back, well formed."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["rela_zoo"])
    change(header, metadata)
    header["__metadata__"]["rela_zoo"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
