"""Labels of each kind, and weights: what is trained on, what label.json says of it, and what is refused."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from nightly.io.errors import UserError
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LabelSpec
from nightly.training.answers import ExportError, answers_of, check
from nightly.training.inputs import NoRowsError, evaluation_batches, keras_inputs, training_batches
from nightly.training.labels import classes_of, label_spec
from nightly.training.run import Settings, _built, train
from nightly.training.transforming import LABEL, WEIGHT
from tests.support.trial_night import write

NAN = float("nan")
BINARY, CLASSES = BinaryLabel(column="y", positive=["1"]), ClassesLabel(column="y")


def files(folder, labels, weights=None, xs=None):
    """A file of transformed rows, x and label and weight, and all that reading them asks of TFT."""
    xs = xs or [index / len(labels) for index in range(len(labels))]
    number = any(isinstance(label, float) for label in labels)
    rows = []
    for index, label in enumerate(labels):
        feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[xs[index]]))}
        if number:
            feature[LABEL] = tf.train.Feature(float_list=tf.train.FloatList(value=[label]))
        else:
            feature[LABEL] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
        if weights:
            feature[WEIGHT] = tf.train.Feature(float_list=tf.train.FloatList(value=[weights[index]]))
        rows.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    write(folder / "examples.gz", rows)
    spec = {
        "x": tf.io.FixedLenFeature([1], tf.float32),
        LABEL: tf.io.FixedLenFeature([1], tf.float32 if number else tf.int64),
    }
    spec |= {WEIGHT: tf.io.FixedLenFeature([1], tf.float32)} if weights else {}
    return [str(folder / "examples.gz")], SimpleNamespace(transformed_feature_spec=lambda: dict(spec))


def network(output, width=1, activation=None):
    inputs = keras_inputs(output)
    return keras.Model(inputs, keras.layers.Dense(width, activation=activation)(inputs["x"]))


def test_numbers_are_read_as_numbers_and_rows_without_one_are_left_out(tmp_path):
    patterns, output = files(tmp_path, [1.5, NAN, -2.0, 0.0, NAN])
    ((features, labels),) = evaluation_batches(patterns, output, 8)
    assert (labels.dtype, labels.numpy().tolist()) == (tf.float32, [[1.5], [-2.0], [0.0]])
    assert features.keys() == {"x"}
    _, labels = next(iter(training_batches(patterns, output, 64, seed=0)))
    assert set(labels.numpy()[:, 0]) == {1.5, -2.0, 0.0}
    with pytest.raises(NoRowsError, match="no row with a label"):
        training_batches(*files(tmp_path, [NAN, NAN]), 8, seed=0)


def test_weights_come_with_their_rows_and_are_no_input(tmp_path):
    patterns, output = files(tmp_path, [1, 0, -1, 1], weights=[0.5, 2, 3, 0])
    ((features, labels, weights),) = evaluation_batches(patterns, output, 8)
    assert (labels.numpy().tolist(), weights.numpy().tolist()) == ([[1], [0]], [0.5, 2])
    assert keras_inputs(output).keys() == features.keys() == {"x"}


@pytest.mark.slow
def test_a_weight_of_0_equals_leaving_the_row_out_and_other_weights_change_the_training(tmp_path):
    labels = [int(i % 3 == 0) for i in range(60)]

    def trained(name, weights, rows=range(60)):
        patterns, output = files(
            tmp_path / name, [labels[i] for i in rows], [weights[i] for i in rows], [i / 60 for i in rows]
        )
        keras.utils.set_random_seed(0)
        model = network(output, activation="sigmoid")
        model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy")
        fn_args = FnArgs(train_files=patterns, eval_files=patterns, train_steps=30)
        train(model, fn_args, output, Settings(model="any", batch_size=16))
        return np.concatenate([weights.ravel() for weights in model.get_weights()])

    with_zeros = trained("zeros", [float(i % 2) for i in range(60)])
    np.testing.assert_array_equal(with_zeros, trained("without", [1.0] * 60, rows=range(1, 60, 2)))
    assert abs(with_zeros - trained("all", [1.0] * 60)).max() > 1e-3
    assert abs(trained("all_again", [1.0] * 60) - trained("positives", [1.0 + 9 * y for y in labels])).max() > 0.1


@pytest.mark.slow
def test_evaluation_is_weighted(tmp_path, caplog):
    caplog.set_level("INFO", "nightly")
    for number, weights in enumerate([[1.0, 1.0], [3.0, 1.0]]):
        patterns, output = files(tmp_path / str(number), [4.0, 0.0], weights)
        model = network(output)
        model.set_weights([np.zeros((1, 1)), np.zeros(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        fn_args = FnArgs(train_files=patterns, eval_files=patterns, train_steps=1)
        train(model, fn_args, output, Settings(model="any", batch_size=2))
    assert [m for m in caplog.messages if "on the eval split" in m] == [
        "on the eval split: loss 8.0000",
        "on the eval split: loss 24.0000",
    ]


def test_label_json_has_the_weighted_share_of_positives(tmp_path):
    patterns, output = files(tmp_path, [1, 0, -1, 0, 1], weights=[3, 0.5, 7, 0.5, 0])
    spec = label_spec(BINARY, [], patterns, output)
    assert (spec.constant, spec.rows, spec.positive, spec.quantiles) == ([0.75], 3, ["1"], [])


def test_label_json_has_each_class_and_its_share_also_of_a_class_without_rows(tmp_path):
    patterns, output = files(tmp_path, [2, 0, 2, 2, -1])
    spec = label_spec(CLASSES, ["a", "b", "c", "d"], patterns, output)
    assert (spec.classes, spec.constant, spec.rows) == (["a", "b", "c", "d"], [0.25, 0, 0.75, 0], 4)


def test_label_json_has_the_mean_and_the_quantiles_of_numbers(tmp_path):
    labels = [float(number) for number in range(201)]
    patterns, output = files(tmp_path, [*labels, NAN], weights=[1.0] * 101 + [0.0] * 100 + [1.0])
    spec = label_spec(NumberLabel(column="y"), [], patterns, output)
    assert (spec.constant, spec.rows) == ([50.0], 101)
    assert spec.quantiles == [float(number) for number in range(101)]


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_a_label_that_many_rows_have_is_a_quantile_as_it_was_written(tmp_path, transform):
    frequent = [0.0, 0.1, 3.25, 12.25, 99.99, 1234.5]
    values = [np.log1p(value) if transform == "log1p" else value for value in frequent]
    patterns, output = files(tmp_path, [float(value) for value in values for _ in range(50)])
    spec = label_spec(NumberLabel(column="y", transform=transform), [], patterns, output)
    assert set(frequent) <= set(spec.quantiles), "F would jump beside the label and not at it"
    assert spec.constant == [pytest.approx(np.mean(values), rel=1e-6)]


def test_classes_are_those_of_the_nights_schema_file(tmp_path):
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "y" type: INT int_domain { min: 3 max: 5 } }')
    assert classes_of(CLASSES, schema, None) == ["3", "4", "5"]
    assert classes_of(BINARY, schema, None) == []
    schema.write_text('feature { name: "y" type: BYTES string_domain { value: "a" } }')
    with pytest.raises(ValueError, match=r"lists 1 classes of 'y'.*give the label a string_domain.*\"learned\""):
        classes_of(CLASSES, schema, None)


def test_too_few_rows_of_every_class_are_told_with_what_to_do(tmp_path):
    label = ClassesLabel(column="y", classes="learned", min_class_rows=50)
    empty = SimpleNamespace(vocabulary_by_name=lambda name: [b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"])  # as TFT writes
    with pytest.raises(UserError, match=r"no value of 'y' has 50 rows .* lower data\.label\.min_class_rows"):
        classes_of(label, tmp_path, empty)


def test_a_model_whose_build_model_takes_a_third_parameter_gets_the_label():
    label = LabelSpec.of(CLASSES, ["a", "b"])
    with_label = SimpleNamespace(build_model=lambda output, hyperparameters, label: label.classes)
    without = SimpleNamespace(build_model=lambda output, hyperparameters: [output, hyperparameters])
    assert _built(with_label, "output", {}, label) == ["a", "b"]
    assert _built(without, "output", {}, label) == ["output", {}]


@pytest.mark.parametrize(
    ("label", "width", "advice"),
    [
        (
            LabelSpec.of(CLASSES, ["a", "b", "c"]),
            1,
            r"\(None, 1\), not \(None, 3\): end it in Dense\(len\(label.classes\)",
        ),
        (LabelSpec.of(NumberLabel(column="y")), 3, r"\(None, 3\), not \(None, 1\): end it in Dense\(1\), or"),
        (LabelSpec.of(BINARY), 2, r"\(None, 2\), not \(None, 1\): end it in Dense\(1, activation='sigmoid'\)"),
    ],
)
def test_an_output_of_another_width_is_refused_with_the_last_layer_of_the_kind(tmp_path, label, width, advice):
    _, output = files(tmp_path, [1])
    with pytest.raises(ExportError, match=advice):
        check(network(output, width), answers_of(label))


def test_outputs_that_are_no_probabilities_are_refused_with_the_missing_softmax(tmp_path):
    _, output = files(tmp_path, [1])
    answers, sample = answers_of(LabelSpec.of(CLASSES, ["a", "b", "c"])), {"x": tf.constant([[0.1], [5.0]])}
    check(network(output, 3, "softmax"), answers, sample)
    for activation in (None, "sigmoid"):
        with pytest.raises(ExportError, match=r"their sum is .* instead of 1: .*softmax"):
            check(network(output, 3, activation), answers, sample)
