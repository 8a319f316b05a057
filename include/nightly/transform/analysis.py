"""Run TFT's analysis graph in this process: each phase is one pass over the data that feeds all its analyzers.

TFT plans an analysis as a graph of operations (tensorflow_transform.nodes), usually run on Beam. In each phase:

1. The preprocessing_fn, with the results so far, is applied to the data.
2. The analyzers accumulate over the tensors that they read.
3. Their results are bound into the preprocessing_fn for the next phase.

Tracing, planning and combiners are TFT's own, so the results are the same. Approximate results (quantiles of many
values, Tukey's parameters) depend on the batch size in the last digits, as on Beam.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, annotators, graph_tools, impl_helper, nodes, tf_utils
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes
from tensorflow_transform.graph_context import TFGraphContext
from tensorflow_transform.saved import saved_transform_io_v2

from nightly.compat import tft
from nightly.io.errors import UserError
from nightly.transform import vocabularies

Tensors = dict[str, tf.Tensor | tf.SparseTensor | tf.RaggedTensor]
PreprocessingFn = Callable[[Tensors], Tensors]
Values = tuple[np.ndarray, ...]  # an analyzer's inputs in one batch
Batches = Callable[[], Iterator[Tensors]]  # iterates over all data, a bounded number of rows at a time
Model = Callable[[Tensors], Tensors]


class UnknownAnalyzer(UserError, NotImplementedError):
    """The preprocessing_fn uses an analyzer that exists only as a Beam transform; the message names alternatives."""

    def __init__(self, operation: nodes.OperationDef):
        super().__init__(
            f"the analyzer {operation.label} cannot run in this process: use another in the preprocessing_fn, or set "
            'engine = "beam" under [pipeline] in config.toml, which runs TFX\'s own Transform'
        )


class PreprocessingError(UserError, ValueError):
    """The preprocessing_fn does not return what it must; the message says what that is."""


def analyze(
    preprocessing_fn: PreprocessingFn, type_specs: dict[str, tf.TypeSpec], batches: Batches, folder: Path
) -> tuple[Path, dict[str, str]]:
    """Run every analyzer of `preprocessing_fn` over the data, with a pass for each phase.

    Return the path of the SavedModel with their results, under `folder`, and annotated assets as key -> file name.
    Raises UnknownAnalyzer, and PreprocessingError if the function does not return a dictionary of tensors.
    """
    graph, inputs, outputs = impl_helper.trace_preprocessing_function(
        preprocessing_fn, type_specs, use_tf_compat_v1=False, base_temp_dir=str(folder)
    )
    if not isinstance(outputs, dict) or not outputs:
        raise PreprocessingError(f"preprocessing_fn must return a dictionary of tensors by name, not {outputs!r}")
    assets = annotators.get_asset_annotations(graph)
    annotators.clear_asset_annotations(graph)
    fingerprint = graph_tools.get_analyzers_fingerprint(graph, inputs)  # before planning, which clears its inputs
    plan, _, _ = analysis_graph_builder.build(graph, inputs, outputs)
    last = plan.parent_operation.operation_def

    def create(operation: beam_nodes.CreateSavedModel, results: dict[str, tf.Tensor]) -> Model | Path:
        """Bind the analyzers' results into the preprocessing_fn. The last phase is saved, the others are applied."""
        if operation is not last:
            tensor_names = {key: tensor.name for key, tensor in operation.output_signature.items()}
            return _phase(preprocessing_fn, type_specs, results, tensor_names, folder)
        path = folder / "transform_fn"
        impl_helper.trace_and_write_v2_saved_model(
            str(path), preprocessing_fn, type_specs, str(folder), fingerprint, results, {}, save_options=None
        )
        return path

    passes = _Passes()
    nodes.Traverser(passes).visit_value_node(plan)
    interpreter = _Interpreter(graph, passes.readers, create, batches, folder)
    return nodes.Traverser(interpreter).visit_value_node(plan), assets


def _phase(
    preprocessing_fn: PreprocessingFn,
    type_specs: dict[str, tf.TypeSpec],
    results: dict[str, tf.Tensor],
    tensor_names: dict[str, str],
    folder: Path,
) -> Model:
    """Return TFT's intermediate SavedModel of a phase, kept in memory.

    :param results: of the analyzers of earlier phases, by tensor name
    :param tensor_names: key -> name of each tensor that the phase's analyzers read
    """
    module = tf.Module()
    context = TFGraphContext(module, temp_dir=str(folder), evaluated_replacements=results)
    traced = impl_helper.get_traced_transform_fn(preprocessing_fn, type_specs, context, tensor_names)
    saved_transform_io_v2.trace_and_update_module(module, traced, "transform_fn", strip_control_dependencies=False)
    for resource in module.resources:
        tft.initialize(resource)  # tables, which loading a SavedModel would fill
    return lambda batch: module.transform_fn(*tf.nest.flatten(batch, expand_composites=True))


class Accumulation(Protocol):
    """An analyzer's state during a pass."""

    def add(self, values: Values) -> None: ...
    def result(self) -> Any: ...


class Combined:
    """One accumulator for all rows."""

    def __init__(self, combiner: analyzer_nodes.Combiner):
        self._combiner = combiner
        self._accumulator = combiner.create_accumulator()

    def add(self, values: Values) -> None:
        self._accumulator = self._combiner.add_input(self._accumulator, values)

    def result(self) -> Any:
        return self._combiner.compact(self._accumulator)


class CombinedPerKey:
    """An accumulator for each key, the first of an analyzer's inputs."""

    def __init__(self, combiner: analyzer_nodes.Combiner):
        self._combiner = combiner
        self._accumulators: dict[Any, Any] = {}

    def add(self, values: Values) -> None:
        for key, inputs in tft.split_inputs_by_key(values):
            known = self._accumulators.get(key)
            accumulator = self._combiner.create_accumulator() if known is None else known
            self._accumulators[key] = self._combiner.add_input(accumulator, inputs)

    def result(self) -> dict[Any, Any]:
        return {key: self._combiner.compact(accumulator) for key, accumulator in self._accumulators.items()}


class Reader(NamedTuple):
    """An operation that accumulates in a pass: the keys of the tensors it reads, and its initial state."""

    label: str
    keys: tuple[str, ...]
    begin: Callable[[], Accumulation]


class _Rows(NamedTuple):
    """A placeholder while planning: the label of a pass, and the keys of the tensors read."""

    label: str
    keys: tuple[str, ...] = ()


class _Passes(nodes.Visitor):
    """Collects the readers of each pass over the data, by the pass's label."""

    def __init__(self) -> None:
        self.readers: dict[str, list[Reader]] = defaultdict(list)

    def visit(self, operation: nodes.OperationDef, inputs: tuple) -> tuple:
        rows = inputs[0] if inputs and isinstance(inputs[0], _Rows) else None
        match operation:
            case beam_nodes.ApplySavedModel():
                return (_Rows(operation.label),)
            case _ if rows is None:
                pass
            case beam_nodes.ExtractFromDict():
                return (rows._replace(keys=operation.keys),)
            case analyzer_nodes.PackedCombineAccumulate():
                for packed in operation.combiners:
                    self._add(rows, Reader(packed.label, packed.keys, lambda packed=packed: Combined(packed.combiner)))
            case analyzer_nodes.CacheableCombineAccumulate():
                self._add(rows, Reader(operation.label, rows.keys, lambda: Combined(operation.combiner)))
            case analyzer_nodes.CacheableCombinePerKeyAccumulate():
                self._add(rows, Reader(operation.label, rows.keys, lambda: CombinedPerKey(operation.combiner)))
            case analyzer_nodes.VocabularyAccumulate() if vocabularies.is_supported(operation):
                self._add(rows, Reader(operation.label, rows.keys, lambda: vocabularies.Tokens(operation)))
            case _:
                raise UnknownAnalyzer(operation)
        return (None,) * operation.num_outputs

    def _add(self, rows: _Rows, reader: Reader) -> None:
        self.readers[rows.label].append(reader)

    def validate_value(self, value: Any) -> None:
        pass


class _Interpreter(nodes.Visitor):
    """Runs each operation once its inputs are ready. A pass returns label -> result of each reader."""

    def __init__(
        self,
        graph: tf.Graph,
        readers: dict[str, list[Reader]],
        create: Callable[[beam_nodes.CreateSavedModel, dict[str, tf.Tensor]], Model | Path],
        batches: Batches,
        folder: Path,
    ):
        self._graph, self._readers, self._create, self._batches, self._folder = graph, readers, create, batches, folder

    def visit(self, operation: nodes.OperationDef, inputs: tuple) -> tuple:
        for run in (self._phase, self._combine, self._combine_per_key, self._vocabulary):
            if (outputs := run(operation, inputs)) is not None:
                return outputs
        raise UnknownAnalyzer(operation)

    def _phase(self, operation: nodes.OperationDef, inputs: tuple) -> tuple | None:
        """Apply a model to the data, or bind the analyzers' results into the next model."""
        match operation:
            case beam_nodes.ExtractInputForSavedModel():
                return (self._batches,)
            case beam_nodes.CreateSavedModel():
                return (self._create(operation, dict(inputs)),)
            case beam_nodes.ApplySavedModel():
                return (_pass(self._readers[operation.label], *inputs),)
            case beam_nodes.CreateTensorBinding():
                return ((operation.tensor_name, tf.constant(inputs[0], tf.as_dtype(operation.dtype_enum))),)
            case beam_nodes.ExtractFromDict():
                by_label = isinstance(operation.keys, str)  # the operation packs several combiners
                return (inputs[0][operation.keys] if by_label else inputs[0],)
        return None

    def _combine(self, operation: nodes.OperationDef, inputs: tuple) -> tuple | None:
        """Merge the accumulators of sums, means, variances, minima, quantiles, covariances, …"""
        match operation:
            case analyzer_nodes.PackedCombineAccumulate():
                return (inputs[0],)
            case (
                analyzer_nodes.CacheableCombineAccumulate()
                | analyzer_nodes.CacheableCombinePerKeyAccumulate()
                | analyzer_nodes.VocabularyAccumulate()
            ):
                return (inputs[0][operation.label],)
            case beam_nodes.Flatten():
                return (inputs,)
            case analyzer_nodes.PackedCombineMerge():
                accumulators = dict(inputs[0])
                return ({c.label: _merged(c.combiner, accumulators[c.keys[0]]) for c in operation.combiners},)
            case analyzer_nodes.CacheableCombineMerge():
                return (_merged(operation.combiner, inputs[0]),)
            case analyzer_nodes.ExtractCombineMergeOutputs() | analyzer_nodes.ExtractPackedCombineMergeOutputs():
                return tuple(inputs[0])
        return None

    def _combine_per_key(self, operation: nodes.OperationDef, inputs: tuple) -> tuple | None:
        """Merge accumulators per key, and format the results."""
        match operation:
            case analyzer_nodes.AddKey():
                return ((operation.key, inputs[0]),)
            case analyzer_nodes.CacheableCombinePerKeyMerge():
                return ([(key, _merged(operation.combiner, accumulator)) for key, accumulator in inputs[0].items()],)
            case analyzer_nodes.CacheableCombinePerKeyFormatKeys():
                dtypes = [info.dtype for info in operation.combiner.output_tensor_infos()]
                return tuple(output.value for output in tft.merge_outputs_by_key(inputs[0], dtypes))
            case analyzer_nodes.CacheableCombinePerKeyFormatLarge():
                return ([(",".join(map(tf.compat.as_str_any, values)), key) for key, values in inputs[0]],)
            case analyzer_nodes.ScaleAndFlattenPerKeyBucketBouandaries():
                return tft.join_boundary_rows(inputs[0])
        return None

    def _vocabulary(self, operation: nodes.OperationDef, inputs: tuple) -> tuple | None:
        """Merge, count, prune, order or write a vocabulary."""
        match operation:
            case analyzer_nodes.VocabularyMerge():
                return (vocabularies.merge(operation, inputs[0]),)
            case analyzer_nodes.VocabularyCount():
                return (np.int64(max(len(inputs[0]), 1)),)  # an empty vocabulary is written with one entry
            case analyzer_nodes.VocabularyPrune():
                return (vocabularies.prune(operation, inputs[0]),)
            case analyzer_nodes.ExtractVocabularyReservedTokens():
                return (tf_utils.fetch_vocabulary_reserved_tokens(self._graph, operation.name),)
            case analyzer_nodes.VocabularyOrderAndWrite():
                return (vocabularies.order_and_write(operation, self._folder, *inputs),)
        return None

    def validate_value(self, value: Any) -> None:
        pass


def _pass(readers: list[Reader], model: Model, batches: Batches) -> dict[str, Any]:
    """Return each reader's result over the data, by its label."""
    accumulations = [(reader, reader.begin()) for reader in readers]
    for batch in batches():
        values = {name: np.asarray(tensor) for name, tensor in model(batch).items()}
        for reader, accumulation in accumulations:
            accumulation.add(tuple(values[key] for key in reader.keys))
    return {reader.label: accumulation.result() for reader, accumulation in accumulations}


def _merged(combiner: analyzer_nodes.Combiner, accumulator: Any) -> list[np.ndarray]:
    return combiner.extract_output(combiner.merge_accumulators([combiner.create_accumulator(), accumulator]))
