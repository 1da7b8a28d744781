"""ONNX files: a graph of operators that onnxruntime runs; nothing of it is code of its maker."""

import math
from collections.abc import Iterator
from typing import Any, Final

import onnx
import onnxruntime

from shared.errors import ModelUnusable, UnsafeArtifact
from worker.formats.limits import USUAL, ArtifactLimits
from worker.formats.memory import lacks_memory
from worker.formats.onnx_estimator import OnnxEstimator

MOST_NODES: Final = 200_000
# The operators that onnxruntime has itself: https://onnx.ai/onnx/operators/ and its own contributions.
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
NAMED_OPERATORS: Final = 5
LONGEST_REASON: Final = 300
LARGE_BYTES: Final = 2**16  # of an array that says nothing of a shape
ELEMENT_BYTES: Final = 8  # where the type of a tensor is not known, or a string


def load_graph(artifact: bytes, limits: ArtifactLimits = USUAL) -> OnnxEstimator:
    """The graph of a file as an estimator.

    Raises:
        UnsafeArtifact: it has data in other files, needs operators of its own, or makes a tensor that is too large.
        ModelUnusable: it is no ONNX file, or takes or gives what is no row.
        MemoryError
    """
    model = parse(artifact)
    check_graph(model)
    check_sizes(model, limits.unpacked_bytes)
    session = session_of(artifact)
    try:
        return OnnxEstimator(session, _class_labels(model.graph))
    except (ModelUnusable, MemoryError):
        raise
    except Exception as error:  # names that are no text, for example, which onnxruntime takes
        raise ModelUnusable(f"The inputs, outputs or labels of the graph cannot be read: {error}") from error


def session_of(artifact: bytes) -> onnxruntime.InferenceSession:
    """A session with a single thread: the service has a process for each core.

    Raises:
        ModelUnusable: onnxruntime does not take the graph.
        MemoryError: what can be computed beforehand is, and there is no memory for it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Both keep what the largest batch so far took, the second for each number of rows that ever came: 132 MiB instead
    # of 10 for two layers of 256 after a batch of 65,536 rows, to save 7 us a call.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 4  # what it says of a row is an exception too, and of a graph's style nobody asked
    try:
        return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if lacks_memory(error):
            raise MemoryError("The graph needs more memory than there is.") from error
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise ModelUnusable(f"onnxruntime {onnxruntime.__version__} does not take the graph: {reason}") from error


def parse(artifact: bytes) -> onnx.ModelProto:
    """The file, not yet checked.

    Raises:
        ModelUnusable: it is no ONNX file.
    """
    try:
        model = onnx.load_model_from_string(artifact)
    except Exception as error:
        raise ModelUnusable(f"The artifact is not an ONNX file: {error}") from error
    if not model.graph.node:
        raise ModelUnusable("The artifact is not an ONNX file, or its graph is empty.")
    return model


def check_graph(model: onnx.ModelProto) -> None:
    """See that a graph is complete and needs nothing but onnxruntime.

    Raises:
        UnsafeArtifact: it has data in other files, or needs operators of its own.
        ModelUnusable: it has more nodes than a graph may have.
    """
    functions = {function.domain for function in model.functions}
    foreign: set[str] = set()
    count = 0
    for graph in _graphs(model):
        count += len(graph.node)
        if count > MOST_NODES:
            raise ModelUnusable(f"The graph has more than {MOST_NODES} nodes.")
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise UnsafeArtifact(
                    f"The tensor {tensor.name!r} lies in another file; save the model with all its data in one: "
                    "onnx.save(model, path, save_as_external_data=False)."
                )
        foreign |= {f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in DOMAINS | functions}
    if foreign:
        named = ", ".join(sorted(foreign)[:NAMED_OPERATORS])
        raise UnsafeArtifact(
            f"The graph needs operators that onnxruntime does not have: {named}. Export it with standard ones only.",
            errors=[
                {"code": "unknown_operator", "type": name, "message": f"There is no operator {name}."}
                for name in sorted(foreign)
            ],
        )


def check_sizes(model: onnx.ModelProto, most_bytes: int) -> None:
    """See that no tensor is huge of which the graph itself tells the size, for a single row.

    A few bytes of ConstantOfShape, Expand, Tile, Range or an outer product can stand for terabytes. What depends on the
    values in rows, or lies in the branches of an If, nobody can tell beforehand.

    Raises:
        UnsafeArtifact: one is larger than that.
        ModelUnusable: it is not well-formed.
    """
    light = _without_large_arrays(model)
    try:
        # Shape inference goes by what this has looked at: onnx 1.23 ends the process at an input that nothing gives.
        onnx.checker.check_model(light)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise ModelUnusable(f"The graph is not well-formed ONNX: {reason}") from error
    try:
        known = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return  # whatever is wrong with it, onnxruntime says better
    for graph in _graphs(known):
        for value in (*graph.value_info, *getattr(graph, "output", ())):
            if isinstance(value, onnx.ValueInfoProto) and (size := _bytes_of_one_row(value)) > most_bytes:
                raise UnsafeArtifact(
                    f"The graph makes the tensor {value.name!r} of {size} bytes, and {most_bytes} are the most; an "
                    "operator can raise FORETELL_MAX_UNPACKED_ARTIFACT_BYTES."
                )


def _without_large_arrays(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph for what only wants to know shapes: its large arrays are inputs.

    Outputs of open shape are left out, which onnxruntime takes and the checker does not.
    """
    light = onnx.ModelProto()
    light.CopyFrom(model)
    del light.graph.initializer[:]
    inputs = {value.name for value in light.graph.input}  # up to IR version 3 arrays are there too
    for array in model.graph.initializer:
        if array.ByteSize() <= LARGE_BYTES:
            light.graph.initializer.append(array)
        elif array.name not in inputs:
            light.graph.input.append(onnx.helper.make_tensor_value_info(array.name, array.data_type, array.dims))
    shown = [value for value in model.graph.output if _has_shape(value)]
    del light.graph.output[:]
    light.graph.output.extend(shown)
    return light


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    """Whether it is no tensor, or one with a number of dimensions."""
    return not value.type.HasField("tensor_type") or value.type.tensor_type.HasField("shape")


def _bytes_of_one_row(value: onnx.ValueInfoProto) -> int:
    """The size of a tensor, each dimension that is open counted as one."""
    kind = value.type.tensor_type
    try:
        element_bytes = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    except KeyError:
        element_bytes = ELEMENT_BYTES
    return int(element_bytes * math.prod(size.dim_value or 1 for size in kind.shape.dim))


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """The graph, those within its nodes (bodies of loops and branches), and its functions."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _tensors(graph: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph or a function holds itself."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def _class_labels(graph: onnx.GraphProto) -> tuple[Any, ...] | None:
    """The labels of a classifier in the order of its probabilities, where the graph names them.

    A classifier or a ZipMap of ai.onnx.ml has them as an attribute. Other converters take the label from an array of
    them by ArrayFeatureExtractor.
    """
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    found: set[tuple[Any, ...]] = set()
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
                found.add(tuple(attribute.ints))
            elif attribute.name == "classlabels_strings" and attribute.strings:
                found.add(tuple(label.decode() for label in attribute.strings))
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in arrays:
            labels = onnx.numpy_helper.to_array(arrays[node.input[0]]).ravel()
            found.add(tuple(label.decode() if isinstance(label, bytes) else label for label in labels.tolist()))
    return found.pop() if len(found) == 1 else None
