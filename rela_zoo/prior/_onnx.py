"""Weights of an ONNX file, which is data alone: read here, for the libraries that read it would be one more to install.

Of the format (onnx.proto) only what carries weights is read: of the model its graph, of the graph nodes and
initialisers, of a node its inputs and outputs, of a tensor name, type, shape and raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_FLOAT32 = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Numbers of fields.
_GRAPH, _NODE, _INITIALISER, _INPUT, _OUTPUT, _OPERATOR, _DIMS, _TYPE, _NAME, _RAW = 7, 1, 5, 1, 2, 4, 1, 2, 8, 9
# Whose second input is a weight, and whose third or second a bias.
_KINDS = {"Conv": ("weight", "bias"), "MatMul": ("weight",), "Add": ("bias",)}


def read_onnx(data: bytes) -> dict[str, Tensor]:
    """The weights of every convolution, matrix product and sum of a graph.

    Args:
        data: of the file.

    Returns:
        `<output of the node>.weight` and `.bias` → float32 tensors. An output has the name that the author's layer
        had, where weights have been renamed by whoever exported them.

    Raises:
        ValueError: no such file, or weights of another type.
    """
    graph = next((value for number, value in _fields(data) if number == _GRAPH), None)
    if not isinstance(graph, bytes):
        raise ValueError("no graph in it")
    nodes, tensors = [], {}
    for number, value in _fields(graph):
        if number == _NODE and isinstance(value, bytes):
            nodes.append(value)
        elif number == _INITIALISER and isinstance(value, bytes):
            name, tensor = _tensor(value)
            if tensor is not None:
                tensors[name] = tensor
    found: dict[str, Tensor] = {}
    for node in nodes:
        inputs: list[str] = []
        outputs: list[str] = []
        operator = ""
        for number, value in _fields(node):
            if number in (_INPUT, _OUTPUT, _OPERATOR) and isinstance(value, bytes):
                text = value.decode("utf-8")
                if number == _OPERATOR:
                    operator = text
                else:
                    (inputs if number == _INPUT else outputs).append(text)
        held = [tensors[name] for name in inputs if name in tensors]
        for kind, tensor in zip(_KINDS.get(operator, ()), held, strict=False):
            found[f"{outputs[0]}.{kind}"] = tensor
    return found


def _tensor(data: bytes) -> tuple[str, Tensor | None]:
    """Name and values of an initialiser; None for a type that no weight has."""
    shape: list[int] = []
    name, kind, raw = "", 0, b""
    for number, value in _fields(data):
        if number == _DIMS and isinstance(value, int):
            shape.append(value)
        elif number == _DIMS and isinstance(value, bytes):
            shape += _varints(value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, bytes):
            name = value.decode("utf-8")
        elif number == _RAW and isinstance(value, bytes):
            raw = value
    if kind != _FLOAT32:
        return name, None
    if not raw:
        raise ValueError(f"the values of {name} are not kept as raw bytes")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(shape)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message of protocol buffers."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + size > len(data):
            raise ValueError("cut short")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("cut short")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _varints(data: bytes) -> list[int]:
    found, place = [], 0
    while place < len(data):
        value, place = _varint(data, place)
        found.append(value)
    return found
