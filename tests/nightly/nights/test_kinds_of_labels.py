"""Whole nights of a model of each kind of label: released and asked at a real server; held for faults of the label."""

import base64
import math
from pathlib import Path

import pytest
import requests

from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_spec import LABEL_SPEC, OTHER, LabelSpec
from nightly.records.night import GateResult, Reason
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome, Verdict
from nightly_client import example
from tests.support.data import COMPLAINTS
from tests.support.example_models import DIGITS, FARES, PRODUCTS, ExampleModel, Project

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]


def in_cents(rows):
    return rows.assign(fare=(rows.fare.astype(float) * 100).round().astype(int).astype(str))


def eights_as_threes(rows):
    return rows.assign(digit=rows.digit.replace(8, 3))


def merged_products(rows):
    return rows.assign(Product=rows.Product.replace("Credit card", "Bank account or service"))


# model -> fault -> what holds the night: a check of the data gate and the column that it names, or the model gate
MODEL_GATE = ("model gate", "")
FAULTS = {
    "fares": {
        "cents": (in_cents, ("max_label_change", "fare")),
        "delayed": (lambda rows: FARES.newest_blank(rows, days=14), ("min_label_share", "fare")),
        "shifted": (FARES.shifted, ("max_label_change_by_value", "pickup_community_area")),
    },
    "digits": {
        "merged": (eights_as_threes, ("max_label_change", "digit")),
        "delayed": (lambda rows: DIGITS.newest_blank(rows, days=7), ("min_label_share", "digit")),
        "shifted": (DIGITS.shifted, MODEL_GATE),
    },
    "products": {
        "merged": (merged_products, ("max_label_change", "product")),
        "delayed": (lambda rows: PRODUCTS.newest_blank(rows, days=25), ("min_label_share", "product")),
        "shifted": (PRODUCTS.shifted, ("max_label_change_by_value", "issue")),
    },
}
ALL = (FARES, DIGITS, PRODUCTS)
MODELS = [pytest.param(model, id=model.name) for model in ALL]
CASES = [pytest.param(model, fault, id=f"{model.name}-{fault}") for model in ALL for fault in FAULTS[model.name]]


class Nights:
    """The nights of each model, run when its first test asks for them."""

    def __init__(self, server, project: Project, folder: Path) -> None:
        self.server, self._project, self._folder = server, project, folder
        self._of: dict[str, dict[str, tuple[int, Path]]] = {}

    def of(self, model: ExampleModel) -> dict[str, tuple[int, Path]]:
        """Return name -> exit status and folder: `first` and `second` release, then a night for each fault."""
        if model is PRODUCTS and not COMPLAINTS.exists():
            pytest.skip(f"{COMPLAINTS} is not here")
        if model.name not in self._of:
            rows = model.rows()
            source = str(model.write(rows, self._folder / "clean"))
            commands = {
                name: [model.name, "--as-of", as_of, "--release", "--source", source]
                for name, as_of in (("first", model.first), ("second", model.second))
            }
            for name, (fault, _) in FAULTS[model.name].items():
                bad = str(model.write(fault(rows.copy()), self._folder / name))
                commands[name] = [model.name, "--as-of", model.second, "--release", "--source", bad]
            ended = self._project.nights(*commands.values())
            self._of[model.name] = dict(zip(commands, ended, strict=True))
        return self._of[model.name]

    def golden(self, model: ExampleModel) -> tuple[Golden, LabelSpec]:
        """Return those of the version that the second night released."""
        version = Verdict.load(self.of(model)["second"][1] / "verdict.json").version
        folder = self.server.paths.serving / model.name / str(version)
        return Golden.load(folder / GOLDEN), LabelSpec.load(folder / LABEL_SPEC)


@pytest.fixture(scope="module")
def nights(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nights")
    return Nights(server, Project.copied(folder / "project"), folder)


def verdict(nights: Nights, model: ExampleModel, night: str) -> Verdict:
    return Verdict.load(nights.of(model)[night][1] / "verdict.json")


def held(verdict: Verdict) -> list[Reason]:
    return [reason for reason in verdict.reasons if reason.held]


@pytest.mark.parametrize("model", MODELS)
def test_two_nights_release_and_the_second_is_compared_with_the_first(nights, model):
    for night in ("first", "second"):
        actual = verdict(nights, model, night)
        assert actual.outcome is Outcome.RELEASED, actual.summary
        assert nights.of(model)[night][0] == 0, "the server has confirmed it"
    folder = nights.of(model)["second"][1]
    compared = [reason.check for reason in GateResult.load(folder / "model_gate.json").reasons]
    metric = {"fares": "mean_absolute_error"}.get(model.name, "accuracy")
    assert f"{metric} against production" in compared
    record = ReleaseRecord.load(nights.server.paths.releases / model.name / f"{actual.version}.json")
    assert record.metrics[metric] > 0 and record.verification.golden_examples > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_release_says_what_its_outputs_mean(nights, model):
    golden, spec = nights.golden(model)
    assert (spec.column, spec.output) == (model.label.lower(), golden.output)
    assert spec.rows > 1000 and spec.constant
    width = {len(example.outputs[spec.output]) for example in golden.examples}
    if model is FARES:
        assert (spec.kind, spec.transform, width) == ("number", "log1p", {1})
        assert len(spec.quantiles) == 101 and 7 < spec.quantiles[50] < 9, "dollars"
    elif model is DIGITS:
        assert spec.classes == [str(digit) for digit in range(10)] and width == {10}
    else:
        assert spec.classes[0] == "Mortgage" and spec.classes[-1] == OTHER, "most frequent first"
        assert "Other financial service" not in spec.classes and width == {len(spec.classes)}


@pytest.mark.parametrize("model", MODELS)
def test_a_server_answers_as_offline_by_the_client_over_rest_and_grpc(nights, model):
    golden, spec = nights.golden(model)
    expected = [example.outputs[spec.output] for example in golden.examples]
    serialized = [base64.b64decode(example.example_base64) for example in golden.examples]
    for client in (nights.server.grpc, nights.server.rest):
        answers = client.predict(model.name, serialized, label="stable").values
        outputs = [answer[spec.output] if isinstance(answer, dict) else answer for answer in answers]
        assert [pytest.approx(row, abs=golden.tolerance * 10) for row in expected] == outputs
        if model is not FARES:
            likeliest = [spec.classes[row.index(max(row))] for row in expected]
            assert [answer["class"][0] for answer in answers] == likeliest


@pytest.mark.parametrize("model", MODELS)
def test_classify_and_regress_answer_as_predict(nights, model):
    golden, spec = nights.golden(model)
    features = [features_of(example.features) for example in golden.examples]
    for client in (nights.server.grpc, nights.server.rest):
        if model is FARES:
            answers = client.regress(model.name, features, signature="regress", label="stable").values
            expected = [example.outputs["prediction"][0] for example in golden.examples]
            assert answers == pytest.approx(expected, rel=1e-4)
            continue
        answers = client.classify(model.name, features, signature="classify", label="stable").values
        for row, example_ in zip(answers, golden.examples, strict=True):
            assert [name for name, _ in row] == spec.classes
            assert [score for _, score in row] == pytest.approx(example_.outputs["probabilities"], abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_an_example_without_a_single_feature_is_answered(nights, model):
    _, spec = nights.golden(model)
    (answer,) = nights.server.grpc.predict(model.name, [b""], label="stable").values
    outputs = answer[spec.output] if isinstance(answer, dict) else answer
    assert all(math.isfinite(number) and number > 0 for number in outputs)


def features_of(features: dict) -> dict:
    """Return a golden example's features as a client has them: bytes instead of base64."""
    return {
        name: base64.b64decode(value["b64"]) if isinstance(value, dict) else value for name, value in features.items()
    }


def test_a_quoted_fare_is_that_of_the_distance(nights):
    nights.of(FARES)
    loop = {"pickup_community_area": 32, "pickup_latitude": 41.880994, "pickup_longitude": -87.632746}
    when = {"trip_start_hour": 9, "trip_start_day": 3, "trip_start_month": 5}
    ohare = {"dropoff_community_area": 76, "dropoff_latitude": 41.979071, "dropoff_longitude": -87.90304}
    nearby = {"dropoff_community_area": 8, "dropoff_latitude": 41.892042, "dropoff_longitude": -87.631864}
    rows = [{**loop, **when, **to} for to in (ohare, nearby)]
    airport, short = nights.server.rest.regress("fares", rows, signature="regress", label="stable").values
    assert 30 < airport < 50 and 4 < short < 9, "dollars"


def test_images_are_sent_as_base64_in_json(nights):
    nights.of(DIGITS)
    rows = DIGITS.rows().tail(200)
    images = [{"b64": base64.b64encode(image).decode()} for image in rows.image]
    answer = requests.post(
        f"{nights.server.server.url}/v1/models/digits/labels/stable:predict",
        json={"signature_name": "raw_features", "instances": [{"image": image} for image in images]},
        timeout=60,
    )
    digits = [int(prediction["class"][0]) for prediction in answer.json()["predictions"]]
    assert sum(a == b for a, b in zip(digits, rows.digit, strict=True)) > 180


def test_a_complaints_product_is_read_from_its_text(nights):
    nights.of(PRODUCTS)
    issues = [
        "Loan servicing, payments, escrow account",
        "Incorrect information on credit report",
        "Using a debit or ATM card",
    ]
    rows = [example({"issue": issue, "company": "Wells Fargo & Company"}).SerializeToString() for issue in issues]
    answers = nights.server.grpc.predict("products", rows, label="stable").values
    names = [answer["class"][0] for answer in answers]
    assert names == ["Mortgage", "Credit reporting", "Bank account or service"]


@pytest.mark.parametrize(("model", "fault"), CASES)
def test_a_fault_of_the_label_holds_the_night_and_is_named(nights, model, fault):
    actual, (_, expected) = verdict(nights, model, fault), FAULTS[model.name][fault]
    if expected == MODEL_GATE:
        assert actual.outcome is Outcome.HELD_MODEL, actual.summary
    else:
        assert actual.outcome is Outcome.HELD_DATA, actual.summary
        assert expected in [(reason.check, reason.subject) for reason in held(actual)]
    assert all(reason.message for reason in held(actual))
    assert nights.of(model)[fault][0] == 3


def test_labels_on_the_wrong_images_pass_the_data_gate_and_are_no_better_than_a_constant_answer(nights):
    """The labels are the same ones, and no value of a feature says more about them than another."""
    folder = nights.of(DIGITS)["shifted"][1]
    assert GateResult.load(folder / "data_gate.json").passed
    reasons = GateResult.load(folder / "model_gate.json").reasons
    assert any(reason.held and "constant" in reason.check for reason in reasons), [r.message for r in reasons]
