"""Multiply-adds of an ONNX file, counted where its shapes are known."""

import importlib
import math
from typing import Any


def multiply_adds_of_onnx(content: bytes) -> int | None:
    """Count the multiply-adds of matrix products and convolutions for one query.

    Returns:
        None where the package onnx is not installed, or a shape is not known, or nothing is to be counted.
    """
    try:
        onnx: Any = importlib.import_module("onnx")
    except ImportError:
        return None
    model = onnx.load_from_string(content)
    dims = model.graph.input[0].type.tensor_type.shape.dim if model.graph.input else ()
    batch = dims[0] if dims else None
    if batch is not None and not batch.HasField("dim_value"):
        batch.ClearField("dim_param")
        batch.dim_value = 1
    queries = batch.dim_value if batch is not None else 1
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
        shapes = {entry.name: tuple(entry.dims) for entry in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        known = {name: shape for name, shape in shapes.items() if 0 not in shape}  # 0 stands for what is not known
        total = sum(_of_node(node, known) for node in graph.node)
    except (KeyError, IndexError, RuntimeError, onnx.shape_inference.InferenceError):
        return None
    return total // max(queries, 1) or None


def _of_node(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":  # every output number is a sum over a kernel
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    return 0
