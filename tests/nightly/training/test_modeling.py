"""What every model shares: the label, the batches, the hyperparameters, and how training stops."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.trainer.fn_args_utils import FnArgs

from nightly.training import run
from nightly.training.export import ExportError, export
from nightly.training.inputs import NoRowsError, evaluation_batches, keras_inputs, training_batches
from nightly.training.raw_features import serving_features
from nightly.training.run import Hyperparameters, Progress, Settings, fit, train
from nightly.training.transforming import LABEL, label_of
from tests.support.trial_night import write

SPEC = {"x": tf.io.FixedLenFeature([1], tf.float32), LABEL: tf.io.FixedLenFeature([1], tf.int64)}
TRANSFORMED = SimpleNamespace(transformed_feature_spec=lambda: dict(SPEC))  # all that reading examples asks of TFT


def example(x: float, label: int) -> bytes:
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[x])),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def files(folder: Path, rows: list[tuple[float, int]]) -> list[str]:
    write(folder / "Split-train/examples.gz", [example(x, label) for x, label in rows])
    return [str(folder / "Split-train/*")]


def network(learning_rate: float = 0.1) -> keras.Model:
    inputs = keras_inputs(TRANSFORMED)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs["x"]))
    model.compile(keras.optimizers.SGD(learning_rate), "binary_crossentropy")
    return model


@pytest.mark.parametrize(
    ("values", "positive"), [(["Yes", "No", "yes"], ["Yes"]), ([1, 0, 2], ["1"]), ([1.0, 0.5, 0.0], ["1"])]
)
def test_the_label_is_one_for_positive_values_zero_for_others_and_minus_one_where_there_is_none(values, positive):
    column = tf.SparseTensor([[0, 0], [2, 0], [3, 0]], tf.constant(values), [4, 1])
    assert label_of(column, positive).numpy().tolist() == [[1], [-1], [0], [0]]


def test_rows_without_a_label_are_neither_trained_on_nor_evaluated(tmp_path):
    patterns = files(tmp_path, [(float(i), [0, 1, -1][i % 3]) for i in range(90)])
    read = [
        (x, y)
        for features, labels in evaluation_batches(patterns, TRANSFORMED, 32)
        for x, y in zip(features["x"].numpy()[:, 0], labels.numpy()[:, 0], strict=True)
    ]
    assert [x for x, _ in read] == [float(i) for i in range(90) if i % 3 != 2]
    features, labels = next(iter(training_batches(patterns, TRANSFORMED, 64, seed=0)))
    assert features["x"].shape == (64, 1)
    assert set(labels.numpy()[:, 0]) == {0, 1}


def test_the_same_seed_gives_the_same_batches_and_another_gives_others(tmp_path):
    patterns = files(tmp_path, [(float(i), i % 2) for i in range(500)])

    def first(seed):
        return next(iter(training_batches(patterns, TRANSFORMED, 64, seed)))[0]["x"].numpy()[:, 0].tolist()

    assert first(1) == first(1) != first(2)


def test_every_epoch_has_every_labelled_row_once_in_an_order_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("nightly.training.inputs.SHUFFLE_ROWS", 300)  # more rows than one block
    patterns = files(tmp_path, [(float(i), i % 4 - 1) for i in range(640)])
    batches = training_batches(patterns, TRANSFORMED, 48, seed=0).take(30)
    read = [x for features, _ in batches for x in features["x"].numpy()[:, 0].tolist()]
    epochs = [read[:480], read[480:960], read[960:]]
    assert [sorted(epoch) for epoch in epochs] == [[float(i) for i in range(640) if i % 4]] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("rows", [[], [(1.0, -1)]])
def test_no_labelled_row_is_an_error_and_not_an_endless_wait(tmp_path, rows):
    with pytest.raises(NoRowsError, match=r"no row with a label in .*Split-train"):
        training_batches(files(tmp_path, rows), TRANSFORMED, 8, seed=0)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(NoRowsError, match=r"no file matches .*nowhere"):
        evaluation_batches([str(tmp_path / "nowhere/*")], TRANSFORMED, 8)


def test_training_stops_when_the_loss_is_no_longer_a_number(tmp_path):
    patterns = files(tmp_path, [(float("inf"), 1), (1.0, 0)])
    fn_args = FnArgs(train_files=patterns, eval_files=patterns, train_steps=20)
    with pytest.raises(run.TrainingError, match=r"the loss is (nan|inf) at step \d+ of 20: lower the learning rate"):
        train(network(), fn_args, TRANSFORMED, Settings(model="taxi", batch_size=8))


def test_training_logs_its_progress_and_ends_with_the_eval_split(tmp_path, caplog):
    caplog.set_level("INFO", "nightly")
    patterns = files(tmp_path, [(x, int(x > 0)) for x in np.linspace(-1, 1, 100)])
    fn_args = FnArgs(train_files=patterns, eval_files=patterns, train_steps=20)
    train(network(), fn_args, TRANSFORMED, Settings(model="taxi", batch_size=16))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "training 20 steps of 16 rows"
    assert sum(line.startswith("step ") for line in lines) == 10
    assert lines[-1].startswith("on the eval split: loss 0.")


@pytest.mark.slow
def test_eval_steps_are_so_many_batches_from_the_first_on(tmp_path, caplog):
    caplog.set_level("INFO", "nightly")
    right = [(x, int(x > 0)) for x in np.linspace(-1, 1, 16)]
    wrong = [(x, 1 - label) for x, label in right]
    to_train_on, to_judge_by = files(tmp_path / "train", right), files(tmp_path / "eval", right + wrong)
    for steps in (1, None):
        fn_args = FnArgs(train_files=to_train_on, eval_files=to_judge_by, train_steps=200, eval_steps=steps)
        train(network(1.0), fn_args, TRANSFORMED, Settings(model="taxi", batch_size=16))
    one, both = (float(said.split()[5]) for said in caplog.messages if said.startswith("on the eval split: loss "))
    assert one < 0.3 < both


@pytest.mark.slow
@pytest.mark.parametrize("steps", [7, 20, 137])
def test_several_steps_at_a_time_are_as_many_as_asked_and_train_the_same_model(steps, tmp_path, caplog, recwarn):
    caplog.set_level("INFO", "nightly")
    patterns = files(tmp_path, [(x, int(x > 0)) for x in np.linspace(-1, 1, 100)])
    trained = {}
    for at_a_time in ("one", "several"):
        keras.utils.set_random_seed(0)
        model, rows = network(), training_batches(patterns, TRANSFORMED, 16, seed=0)
        if at_a_time == "one":
            model.fit(rows, steps_per_epoch=steps, shuffle=False, verbose=0)
        else:
            fit(model, rows, steps, [Progress(steps, 16)])
        assert int(model.optimizer.iterations) == steps
        trained[at_a_time] = np.concatenate([weights.ravel() for weights in model.get_weights()])
    np.testing.assert_allclose(trained["several"], trained["one"], rtol=1e-6)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert len(told) == min(steps, 10)
    assert told[-1].startswith(f"step {steps} of {steps}: ")
    assert not [warning for warning in recwarn if "ran out of data" in str(warning.message)]


def test_a_model_that_says_how_many_steps_to_run_at_a_time_is_obeyed(tmp_path):
    patterns = files(tmp_path, [(x, int(x > 0)) for x in np.linspace(-1, 1, 100)])
    model = network()
    model.compile("sgd", "binary_crossentropy", steps_per_execution=3)
    fit(model, training_batches(patterns, TRANSFORMED, 16, seed=0), 50, [])
    assert model.steps_per_execution == 3
    assert int(model.optimizer.iterations) == 50


def test_a_misspelt_or_missing_hyperparameter_is_refused():
    values = Hyperparameters({"learning_rat": 0.1})
    values.get("learning_rate")
    with pytest.raises(
        run.TrainingError, match=r"'learning_rat' is not read by model\.py; did you mean 'learning_rate'"
    ):
        values.refuse_unread("model.py")
    with pytest.raises(run.TrainingError, match="'hidden' is missing"):
        values["hidden"]


def test_serving_features_are_those_of_the_serving_environment():
    schema = schema_pb2.Schema(default_environment=["TRAINING", "SERVING"])
    schema.feature.add(name="fare")
    schema.feature.add(name="label", not_in_environment=["SERVING"])
    assert serving_features(schema) == ["fare"]


def test_a_model_of_another_shape_is_refused_with_what_to_do(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)])
    with pytest.raises(ExportError, match=r"output is \(None, 3\), not \(None, 1\): end it in Dense\(1"):
        export(model, TRANSFORMED, schema_pb2.Schema(), str(tmp_path))
