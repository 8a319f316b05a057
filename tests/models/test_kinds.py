"""A tiny model of each kind of label on real rows: trained, exported, and served as it answered offline."""

import base64

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_spec import LABEL_SPEC, OTHER, LabelSpec
from nightly.serving.verify import largest_difference
from nightly.training.answers import ExportError
from nightly.training.run import run_fn
from nightly.training.samples import WARM_UP
from nightly_client import Client
from tests.support.servers import Server, list_of, model_config, release
from tests.support.tiny_models import MODEL, Workshop, digits, schema_text, taxi_rows

pytestmark = [pytest.mark.slow, pytest.mark.integration]

TRIP = ["trip_miles", "trip_seconds"]
SIGNATURES = {
    "tipped": {"classify", "regress"},
    "costs": {"regress"},
    "payments": {"classify"},
    "digits": {"classify"},
}
DIGIT = 'name: "digit" type: INT int_domain { min: 0 max: 9 }'
RARE = 100  # rows that a payment type needs to be a class


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Workshop(tmp_path_factory.mktemp("workshop"), patch)


@pytest.fixture(scope="module")
def models(workshop):
    """name -> the exported model: binary and weighted; a number; classes that are learned; classes of the schema."""
    trips = taxi_rows(4000)
    images, blocks = digits()
    workshop.write(
        "tipped",
        'column = "big_tipper"\npositive = ["1"]',
        schema_text('name: "big_tipper" type: INT', [*TRIP, "fare"], weight="tips"),
        weight="tips",
    )
    workshop.write(
        "costs",
        'kind = "number"\ncolumn = "fare"\ntransform = "log1p"',
        schema_text('name: "fare" type: FLOAT', TRIP),
    )
    workshop.write(
        "payments",
        f'kind = "classes"\ncolumn = "payment_type"\nclasses = "learned"\nmin_class_rows = {RARE}',
        schema_text('name: "payment_type" type: BYTES', [*TRIP, "tips"]),
    )
    workshop.write("digits", 'kind = "classes"\ncolumn = "digit"', schema_text(DIGIT, blocks))
    weighted = [row | {"tips": str(1 + float(row["tips"] or 0))} for row in trips]
    rows = {"tipped": weighted, "costs": trips, "payments": trips, "digits": images}
    return {name: workshop.train(name, rows[name]) for name in rows}


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    for name, export in models.items():
        (folder / name).mkdir()
        release(export, folder / name, 1)
    config = folder / "models.config"
    config.write_text(list_of(*(model_config(name, folder / name) for name in models)))
    started = Server(f"--model_config_file={config}").wait_ready()
    yield started
    assert started.stop() == 0, "".join(started.log)[-4000:]


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    with Client(server.url if request.param == "rest" else f"grpc://{server.grpc_address}", timeout=60) as client:
        yield client


def spec_of(folder):
    return LabelSpec.load(folder / LABEL_SPEC)


def golden_of(folder):
    """The golden examples, serialized and as feature dicts, and their outputs by name: [rows, k]."""
    examples = Golden.load(folder / GOLDEN).examples
    outputs = {name: np.array([example.outputs[name] for example in examples]) for name in examples[0].outputs}
    return [base64.b64decode(example.example_base64) for example in examples], examples, outputs


@pytest.mark.parametrize("name", list(SIGNATURES))
def test_a_server_answers_as_offline(name, models, client):
    golden = Golden.load(models[name] / GOLDEN)
    assert golden.output == spec_of(models[name]).output
    assert set(golden.apis) == SIGNATURES[name]
    for api in (None, *golden.apis):
        assert largest_difference(client, name, 1, golden, api) <= golden.tolerance
    wrong = golden.examples[-1].model_copy(
        update={"outputs": {golden.output: [0.5 + v for v in golden.examples[-1].outputs[golden.output]]}}
    )
    golden = golden.model_copy(update={"examples": [*golden.examples[:-1], wrong]})
    assert largest_difference(client, name, 1, golden) > 0.01, "any number of any row counts"


@pytest.mark.parametrize("name", list(SIGNATURES))
def test_a_model_has_the_signatures_of_its_kind_and_warm_up_requests_for_each(name, models):
    signatures = set(tf.saved_model.load(str(models[name])).signatures)
    assert signatures == {"serving_default", "raw_features"} | SIGNATURES[name]
    records = tf.data.TFRecordDataset(str(models[name] / WARM_UP)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert {log.WhichOneof("log_type") for log in logs} == {"predict_log"} | {f"{s}_log" for s in SIGNATURES[name]}


def test_neither_label_nor_weight_is_asked_for(models):
    for folder in models.values():
        _, examples, _ = golden_of(folder)
        assert not {"big_tipper", "payment_type", "digit"} & examples[0].features.keys()
    assert "fare" not in golden_of(models["costs"])[1][0].features
    assert golden_of(models["tipped"])[1][0].features.keys() == {*TRIP, "fare"}, "tips are the weights"


@pytest.mark.parametrize("name", list(SIGNATURES))
def test_raw_features_answer_as_serialized_examples(name, models, client):
    _, examples, _ = golden_of(models[name])
    rows = client.predict(name, [example.features for example in examples], signature="raw_features").values
    assert max(example.difference(row) for example, row in zip(examples, rows, strict=True)) < 1e-5


def test_classes_are_answered_with_their_names(models, client):
    serialized, examples, outputs = golden_of(models["digits"])
    classes = spec_of(models["digits"]).classes
    likeliest = [classes[index] for index in outputs["probabilities"].argmax(axis=1)]
    rows = client.predict("digits", serialized).values
    assert [row["class"] for row in rows] == [[name] for name in likeliest]
    classified = client.classify("digits", [e.features for e in examples], signature="classify").values
    assert [[name for name, _ in row] for row in classified] == [classes] * len(rows)
    scores = np.array([[score for _, score in row] for row in classified])
    np.testing.assert_allclose(scores, outputs["probabilities"], atol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_a_number_is_answered_on_its_own_scale(models, client):
    _, examples, outputs = golden_of(models["costs"])
    spec = spec_of(models["costs"])
    features = [example.features for example in examples]
    regressed = client.regress("costs", features, signature="regress").values
    np.testing.assert_allclose(regressed, outputs["prediction"][:, 0], rtol=1e-5)
    # Dollars, and not their logarithms, which are 1.4 to 5 here.
    assert 6 < np.median(outputs["prediction"]) < 15
    assert (spec.transform, spec.quantiles[50]) == ("log1p", pytest.approx(8.4, abs=2))
    far = sorted(range(len(features)), key=lambda row: features[row]["trip_miles"] or 0)
    assert regressed[far[-1]] > 2 * regressed[far[0]], "a longer trip costs more"


def test_a_binary_model_is_classified_and_regressed(models, client):
    _, examples, outputs = golden_of(models["tipped"])
    features = [example.features for example in examples]
    regressed = client.regress("tipped", features, signature="regress").values
    np.testing.assert_allclose(regressed, outputs["probability"][:, 0], atol=1e-5)
    classified = client.classify("tipped", features, signature="classify").values
    for row, probability in zip(classified, regressed, strict=True):
        assert row == [("0", pytest.approx(1 - probability, abs=1e-5)), ("1", pytest.approx(probability, abs=1e-5))]


def test_rare_values_share_the_last_of_the_learned_classes(models):
    spec, trained = spec_of(models["payments"]), taxi_rows(4000)[800:]
    counts = {}
    for row in trained:
        counts[row["payment_type"]] = counts.get(row["payment_type"], 0) + 1
    frequent = sorted((name for name in counts if counts[name] >= RARE), key=counts.get, reverse=True)
    assert len(frequent) < len(counts), "the rows have rare values"
    assert spec.classes == [*frequent, OTHER]
    shares = [counts[name] / len(trained) for name in frequent]
    assert spec.constant == pytest.approx([*shares, 1 - sum(shares)])
    assert spec.rows == len(trained)


def test_the_constant_of_weighted_rows_is_weighted(models):
    trained = taxi_rows(4000)[800:]
    weights = np.array([1 + float(row["tips"] or 0) for row in trained])
    positive = np.array([row["big_tipper"] == "1" for row in trained])
    spec = spec_of(models["tipped"])
    assert spec.constant == [pytest.approx(np.average(positive, weights=weights), abs=1e-6)]
    assert (spec.kind, spec.positive, spec.output) == ("binary", ["1"], "probability")


@pytest.mark.parametrize(
    ("name", "written", "instead", "trains"),
    [
        ("narrow", "len(label.classes)", "3", False),
        ("without_softmax", ', activation="softmax"', "", True),
    ],
)
def test_a_wrong_last_layer_is_refused_and_a_wrong_width_before_the_training(
    workshop, name, written, instead, trains, caplog
):
    caplog.set_level("INFO", "nightly")
    images, blocks = digits()
    model = MODEL.replace(written, instead)
    assert model != MODEL
    workshop.write(name, 'kind = "classes"\ncolumn = "digit"', schema_text(DIGIT, blocks), model=model)
    fn_args = workshop.transform(name, images[:300])
    with pytest.raises(ExportError, match="softmax"):
        run_fn(fn_args)
    assert ("on the eval split" in caplog.text) is trains
