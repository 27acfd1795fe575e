"""ONNX files against ones made here, by the rules of protocol buffers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rela_zoo.networks.thin_resnet import ThinResNet50
from rela_zoo.prior._onnx import read_onnx
from rela_zoo.prior.families.open_nsfw import OpenNsfw


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, value: torch.Tensor, *, packed: bool = False) -> bytes:
    kinds = {torch.float32: 1, torch.int64: 7}
    shape = field(1, b"".join(map(varint, value.shape))) if packed else b"".join(field(1, n) for n in value.shape)
    return shape + field(2, kinds[value.dtype]) + field(8, name.encode()) + field(9, value.numpy().tobytes())


def node(operator: str, inputs: list[str], output: str) -> bytes:
    names = b"".join(field(1, name.encode()) for name in inputs)
    return names + field(2, output.encode()) + field(3, b"some name") + field(4, operator.encode())


def model(nodes: list[bytes], tensors: list[bytes]) -> bytes:
    graph = b"".join(field(1, one) for one in nodes) + b"".join(field(5, one) for one in tensors)
    # A version before the graph, and fixed-size fields that no reader of weights knows.
    return field(1, 4) + varint(99 << 3 | 5) + bytes(4) + varint(98 << 3 | 1) + bytes(8) + field(7, graph)


@pytest.mark.parametrize("packed", [False, True])
def test_weights_are_named_by_the_output_of_their_node(packed):
    weight, bias, matrix, shape = torch.randn(200, 3, 1, 1), torch.randn(200), torch.randn(4, 2), torch.tensor([1, 2])
    data = model(
        [
            node("Conv", ["image", "w", "b"], "layer"),
            node("Reshape", ["layer", "s"], "flat"),
            node("MatMul", ["flat", "m"], "product"),
            node("Add", ["product", "b"], "sum"),
            node("Add", ["sum", "flat"], "no weights"),
        ],
        [tensor(name, one, packed=packed) for name, one in zip("wbms", (weight, bias, matrix, shape), strict=True)],
    )
    found = read_onnx(data)
    assert list(found) == ["layer.weight", "layer.bias", "product.weight", "sum.bias"]
    assert torch.equal(found["layer.weight"], weight)
    assert torch.equal(found["sum.bias"], bias)
    assert torch.equal(found["product.weight"], matrix)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no graph"),
        (field(1, 4), "no graph"),
        (field(7, b"abc")[:-1], "cut short"),
        (b"\xff" * 20, "more than ten bytes"),
        (b"\x80", "cut short"),
        (varint(7 << 3 | 3), "kind 3"),
        (model([], [field(1, 2) + field(2, 1) + field(8, b"w")]), "raw bytes"),
    ],
)
def test_other_bytes_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        read_onnx(data)


def test_values_that_do_not_fill_their_shape_are_refused():
    data = model([], [field(1, 3) + field(2, 1) + field(8, b"w") + field(9, bytes(8))])
    with pytest.raises(RuntimeError, match="shape"):
        read_onnx(data)


def test_the_thin_network_against_one_written_out():
    """The first stages by hand: far-side padding, stride in the first 1×1 convolution."""
    torch.manual_seed(0)
    network = ThinResNet50(2).eval()
    x = torch.randn(2, 3, 64, 64)

    def conv(layer, x, **how):
        return F.conv2d(x, layer.weight, layer.bias, **how)

    y = F.relu(conv(network.conv_1, x, stride=2, padding=3))
    y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=float("-inf")), 3, stride=2)
    for number in range(4):
        for index, block in enumerate(network.get_submodule(f"stage{number}")):
            stride = 2 if number > 0 and index == 0 else 1
            z = F.relu(conv(block.branch2a, y, stride=stride))
            z = conv(block.branch2c, F.relu(conv(block.branch2b, z, padding=1)))
            y = F.relu(z + (conv(block.proj_shortcut, y, stride=stride) if index == 0 else y))
    with torch.no_grad():
        torch.testing.assert_close(network(x), F.linear(y.mean((2, 3)), network.fc.weight, network.fc.bias))
    assert y.shape[1] == ThinResNet50.num_features == 1024


def test_names_of_the_published_graph_and_the_order_of_channels():
    with torch.device("meta"):
        wanted = ThinResNet50(2).state_dict()
    theirs = {}
    for key in wanted:
        module, kind = key.rsplit(".", 1)
        name = {"conv_1": "bn_1/FusedBatchNormV3:0", "fc": "fc_nsfw/MatMul:0"}.get(module)
        if key == "fc.bias":
            name = "fc_nsfw/BiasAdd:0"
        stage, _, rest = module.partition(".")
        block, _, branch = rest.partition(".")
        name = name or f"bn_{stage}_block{block}_{branch}/FusedBatchNormV3:0"
        theirs[f"{name}.{kind}"] = torch.randn(wanted[key].shape if key != "fc.weight" else (1024, 2))
    found = OpenNsfw().to_own_names(ThinResNet50(), theirs)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}
    first = theirs["bn_1/FusedBatchNormV3:0.weight"]
    assert torch.equal(found["conv_1.weight"], first[:, [2, 1, 0]])
    assert torch.equal(found["fc.weight"], theirs["fc_nsfw/MatMul:0.weight"].T)
    assert OpenNsfw().to_own_names(ThinResNet50(), found) == found, "own names are left alone"
