"""Predict, Classify, Regress and MultiInference on a loaded version, with TensorFlow Serving's checks and texts."""

import math
from collections.abc import Iterable

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from nightly_server.dtypes import type_name
from nightly_server.errors import ServingError, invalid, precondition
from nightly_server.limits import excerpt
from nightly_server.servable import Servable
from nightly_server.tensor_protos import from_proto, to_proto

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_NO_ARRAYS = (tf.resource.as_datatype_enum, tf.variant.as_datatype_enum)  # types that exist only within a session

Signature = meta_graph_pb2.SignatureDef


def predict(
    servable: Servable,
    signature_name: str,
    inputs: dict[str, np.ndarray],
    output_filter: Iterable[str] = (),
    deadline: float = math.inf,
) -> dict[str, np.ndarray]:
    """Return the outputs in `output_filter`, or all, by alias. Here and below, `deadline` is that of Servable.run."""
    name = signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    if name not in servable.signatures:
        raise precondition(f'Serving signature key "{excerpt(name)}" not found.')
    signature = servable.signatures[name]
    sent, expected = set(inputs), set(signature.inputs)
    if sent - expected or (expected - sent) - set(signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({excerpt(_set(sent))}) != "
            f"len({_set(expected)}). Sent extra: {excerpt(_set(sent - expected))}. "
            f"Missing but required: {_set(expected - sent)}."
        )
    feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
    for alias in expected - sent:
        feeds[signature.inputs[alias].name] = tf.make_ndarray(signature.defaults[alias])
    aliases = list(output_filter) or list(signature.outputs)
    for alias in aliases:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {excerpt(alias)} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if aliases.count(alias) > 1:
            raise invalid(f"duplicate output tensor alias: {alias}")
        if signature.outputs[alias].dtype in _NO_ARRAYS:
            name = type_name(tf.as_dtype(signature.outputs[alias].dtype))
            raise invalid(
                f"Output {alias} cannot be sent: its tensor type is {name}. Name the others as output_filter."
            )
    tensors = servable.run(feeds, [signature.outputs[alias].name for alias in aliases], "Predict", deadline)
    return {alias: tensors[signature.outputs[alias].name] for alias in aliases}


def predict_response(
    servable: Servable, request: predict_pb2.PredictRequest, deadline: float = math.inf
) -> predict_pb2.PredictResponse:
    inputs = {}
    for alias, tensor in request.inputs.items():
        try:
            inputs[alias] = from_proto(tensor)
        except ValueError:
            raise invalid(f"tensor parsing error: {excerpt(alias)}") from None
    outputs = predict(servable, request.model_spec.signature_name, inputs, request.output_filter, deadline)
    response = predict_pb2.PredictResponse(model_spec=_model_spec(servable, request.model_spec))
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(array))
    return response


def classification_response(
    servable: Servable, request: classification_pb2.ClassificationRequest, deadline: float = math.inf
) -> classification_pb2.ClassificationResponse:
    signature = _example_signature(servable, request.model_spec.signature_name)
    names = _classification_names(signature)
    examples = _examples(servable, request.input)
    tensors = servable.run({names.pop("inputs"): examples}, names.values(), "Classify", deadline)
    return classification_pb2.ClassificationResponse(
        model_spec=_model_spec(servable, request.model_spec),
        result=_classifications(names, tensors, len(examples)),
    )


def regression_response(
    servable: Servable, request: regression_pb2.RegressionRequest, deadline: float = math.inf
) -> regression_pb2.RegressionResponse:
    signature = _example_signature(servable, request.model_spec.signature_name)
    names = _regression_names(signature)
    examples = _examples(servable, request.input)
    tensors = servable.run({names["inputs"]: examples}, [names["outputs"]], "Regress", deadline)
    return regression_pb2.RegressionResponse(
        model_spec=_model_spec(servable, request.model_spec),
        result=_regressions(tensors[names["outputs"]], len(examples)),
    )


def multi_inference_response(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, deadline: float = math.inf
) -> inference_pb2.MultiInferenceResponse:
    """Run several classifications and regressions of the same examples at once. Each may have another input tensor."""
    tasks: dict[str, tuple[str, dict[str, str]]] = {}
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name in tasks:
            raise invalid(f"Duplicate evaluation of signature: {excerpt(name)}")
        if name not in servable.signatures:
            raise invalid(f"Requested signature not found in model graph: {excerpt(name)}")
        if task.method_name == CLASSIFY:
            names = _classification_names(servable.signatures[name])
        elif task.method_name == REGRESS:
            names = _regression_names(servable.signatures[name])
        else:
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {excerpt(task.method_name)}"
            )
        tasks[name] = (task.method_name, names)
    sources = {names.pop("inputs") for _, names in tasks.values()}
    examples = _examples(servable, request.input)
    fetches = {tensor for _, names in tasks.values() for tensor in names.values()}
    tensors = servable.run(dict.fromkeys(sources, examples), sorted(fetches), "MultiInference", deadline)
    response = inference_pb2.MultiInferenceResponse()
    for task, (method, names) in zip(request.tasks, tasks.values(), strict=True):
        result = response.results.add(model_spec=_model_spec(servable, task.model_spec))
        if method == CLASSIFY:
            result.classification_result.CopyFrom(_classifications(names, tensors, len(examples)))
        else:
            result.regression_result.CopyFrom(_regressions(tensors[names["outputs"]], len(examples)))
    return response


def serialized_examples(source: input_pb2.Input) -> np.ndarray:
    """Return serialized tf.Examples, shape [n]. A context is prepended to each, and parsing merges the two."""
    if source.WhichOneof("kind") == "example_list_with_context":
        context = source.example_list_with_context.context.SerializeToString()
        examples = [context + e.SerializeToString() for e in source.example_list_with_context.examples]
    else:
        examples = [example.SerializeToString() for example in source.example_list.examples]
    if not examples:
        raise invalid("Input is empty.")
    return np.array(examples, dtype=object)


def _examples(servable: Servable, source: input_pb2.Input) -> np.ndarray:
    examples = serialized_examples(source)
    servable.record_examples(len(examples))
    return examples


def _model_spec(servable: Servable, requested: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
    name = requested.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    spec = model_pb2.ModelSpec(name=requested.name, signature_name=name)
    spec.version.value = servable.version
    return spec


def _example_signature(servable: Servable, name: str) -> Signature:
    name = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {excerpt(name)}")
    return servable.signatures[name]


def _classification_names(signature: Signature) -> dict[str, str]:
    """Return the tensor names of `inputs`, `classes` and `scores`, by alias. TF2 exports have no method name."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    outputs = {alias: signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs}
    if not outputs:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    return {"inputs": signature.inputs["inputs"].name, **outputs}


def _regression_names(signature: Signature) -> dict[str, str]:
    """Return the tensor names of `inputs` and `outputs`, by alias."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")
    return {"inputs": signature.inputs["inputs"].name, "outputs": signature.outputs["outputs"].name}


def _classifications(
    names: dict[str, str], tensors: dict[str, np.ndarray], examples: int
) -> classification_pb2.ClassificationResult:
    arrays = _class_arrays(names, tensors, examples)
    columns = next(iter(arrays.values())).shape[1]
    result = classification_pb2.ClassificationResult()
    for row in range(examples):
        classes = result.classifications.add().classes
        for column in range(columns):
            entry = classes.add()
            if "classes" in arrays:
                entry.label = arrays["classes"][row, column].decode(errors="replace")
            if "scores" in arrays:
                entry.score = arrays["scores"][row, column]
    return result


def _class_arrays(names: dict[str, str], tensors: dict[str, np.ndarray], examples: int) -> dict[str, np.ndarray]:
    """Return the model's `classes`, `scores`, or both: a row an example, a column a class. Raises ServingError."""
    arrays = {}
    for alias, dtype in (("classes", tf.string), ("scores", tf.float32)):
        if alias not in names:
            continue
        array = arrays[alias] = tensors[names[alias]]
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if tf.as_dtype(array.dtype) != dtype:
            raise invalid(
                f"Expected {alias} Tensor of {_enum(dtype)}. Got: {_enum(tf.as_dtype(array.dtype))}",
            )
        if len(array) != examples:
            raise invalid(f"Expected {alias} output batch size of {examples}. Got: {len(array)}")
    widths = [array.shape[1] for array in arrays.values()]
    if len(set(widths)) > 1:
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}")
    return arrays


def _regressions(array: np.ndarray, examples: int) -> regression_pb2.RegressionResult:
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if len(array) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(array)}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_enum(tf.as_dtype(array.dtype))}")
    return regression_pb2.RegressionResult(
        regressions=[regression_pb2.Regression(value=value) for value in array.ravel().tolist()]
    )


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(str(size) for size in array.shape) + "]"


def _enum(dtype: tf.DType) -> str:
    return f"DT_{type_name(dtype).upper()}"


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
