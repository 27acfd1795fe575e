"""Only the shards that hold what is wanted are fetched: by number, by samples, by a training."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import Subset

from rela_zoo.data import image_source
from rela_zoo.embeddings import open_embeddings
from rela_zoo.errors import EmbeddingsError, HubError, RelaZooError
from rela_zoo.hub import pull

DIM = 64


def test_only_the_shards_that_are_wanted(zoo):
    pulled = pull(zoo.name, what=("embeddings",), shards=[1])
    assert pulled.shards == (1,)
    assert zoo.hub.calls("shard-00001")
    assert not zoo.hub.calls("shard-0000[02]")
    with pytest.raises(EmbeddingsError, match="partial=True"):
        open_embeddings(pulled.embeddings)
    assert open_embeddings(pulled.embeddings, partial=True).missing == (0, 2)
    with pytest.raises(HubError, match="no such shard"):
        pull(zoo.name, shards=[3])


def test_only_the_shards_of_some_samples(zoo):
    ids = list(image_source(str(zoo.images / "train")).ids)
    wanted = [ids[20], ids[1], ids[2]]
    pulled = pull(zoo.name, ids=wanted)
    assert pulled.shards == (0, 2)
    assert not zoo.hub.calls("shard-00001")
    table = open_embeddings(pulled.embeddings, verify="full", partial=True)
    torch.testing.assert_close(table.rows(table.positions(wanted)), zoo.rows[[20, 1, 2]].half())
    with pytest.raises(EmbeddingsError, match=r"(?s)rows 8 to 15 .* not on this machine.*2 shards of 3.*rela-zoo pull"):
        table.rows([9])
    with pytest.raises(EmbeddingsError, match=r"1 of 2 samples have no row"):
        pull(zoo.name, ids=[ids[0], "elsewhere.png"])
    before = len(zoo.hub.requests)
    whole = pull(zoo.name)
    assert {path for _, path in zoo.hub.requests[before:] if "/resolve/" in path} == {
        path for _, path in zoo.hub.calls("shard-00001")
    }, "only what was missing"
    assert whole.shards is None
    assert whole.artefacts == pulled.artefacts
    assert open_embeddings(whole.embeddings, verify="full").digest == table.digest


@pytest.mark.parametrize("form", ["data", "txt", "jsonl", "parquet"])
def test_the_command_fetches_the_shards_of_data_or_of_a_list(zoo, tmp_path, form):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from typer.testing import CliRunner

    from rela_zoo.cli import app

    folder = zoo.images / "train"
    ids = [one for one in image_source(str(folder)).ids if one.startswith("0/")]  # rows 0 to 11
    listed = tmp_path / f"some.{form}"
    if form == "data":
        for one in set(image_source(str(folder)).ids) - set(ids):
            (folder / one).unlink()
        (folder / "1").rmdir()
        option = ["--data", str(folder)]
    else:
        option = ["--ids", str(listed)]
        if form == "parquet":
            pq.write_table(pa.table({"id": ids, "weight": [1.0] * len(ids)}), listed)
        else:
            listed.write_text("".join(f"{json.dumps(one) if form == 'jsonl' else one}\n" for one in ids))
    done = CliRunner().invoke(app, ["pull", zoo.name, *option, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["shards"] == [0, 1]
    assert not zoo.hub.calls("shard-00002")
    listed.write_text("3\n")
    if form == "jsonl":
        with pytest.raises(RelaZooError, match="holds no sample ids"):
            CliRunner().invoke(app, ["pull", zoo.name, *option], catch_exceptions=False)


@pytest.mark.parametrize("given", [True, False])
def test_embeddings_by_address_come_in_part_where_the_transport_is_given(zoo, given):
    from rela_zoo.engine import plan_rela
    from rela_zoo.engine.targets import resolve_targets

    moved = pull(zoo.name, what=("transport",)).transport
    source = image_source(Subset(image_source(str(zoo.images / "train")), range(12)))
    rela = {"prior": zoo.name, "embeddings": zoo.address, "verify": 0, "transport": str(moved) if given else None}
    targets = resolve_targets(plan_rela(rela).only, source, device=torch.device("cpu"))
    assert targets.rows(torch.arange(12)).shape == (12, DIM)
    assert bool(zoo.hub.calls("shard-00002")) is not given
