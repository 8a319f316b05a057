"""The default model for tables: from raw rows through the project's transform and trainer to a served model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from nightly.io.code import sources_of
from nightly.new_model import templates
from nightly.records.label_spec import LabelSpec
from nightly.training import run
from nightly.training.raw_features import MISSING_INT
from nightly.training.tabular import Features, layers, network, preprocessing
from nightly.training.tabular.recommended import recommended
from tests.support.tiny_models import Workshop

FEATURES = Features(
    numbers=["miles", "riders", "unused"],
    categories=["company", "area"],
    category_lists=["tags"],
    vectors=["place"],
    texts=["note"],
)
SCHEMA = """
feature { name: "miles" type: FLOAT }
feature { name: "riders" type: INT }
feature { name: "unused" type: FLOAT }
feature { name: "company" type: BYTES }
feature { name: "area" type: INT }
feature { name: "tags" type: BYTES value_count { min: 1 } }
feature { name: "place" type: FLOAT shape { dim { size: 2 } } presence { min_fraction: 1 } }
feature { name: "note" type: BYTES natural_language_domain {} }
feature { name: "late" type: INT not_in_environment: "SERVING" }
default_environment: "TRAINING"
default_environment: "SERVING"
"""
ROWS = 600
HALVES = [0.5, 0.5, 0]
NUMBER = LabelSpec(
    kind="number", column="y", output="prediction", constant=[1e6], quantiles=[*range(0, 2_020_000, 20_000)]
)


def rows() -> list[dict]:
    """Rows whose label depends on a number that is sometimes missing, and on one feature of each other kind."""
    random = np.random.default_rng(1)
    made = []
    for _ in range(ROWS):
        miles, area = random.lognormal(), int(random.integers(4))
        company, tag, word = (
            random.choice(["Flash", "Blue"]),
            random.choice(["vip", "new"]),
            random.choice(["Rain", "sun"]),
        )
        place = random.normal(size=2).astype(np.float32)
        score = 2 * (1 < miles < 3) + (area == 2) + (company == "Blue") + (tag == "vip") + (word == "Rain") + place[0]
        made.append(
            {
                "miles": "" if random.random() < 0.1 else str(miles),
                "riders": str(random.integers(1, 4)),
                "unused": "",
                "company": company,
                "area": str(area),
                "tags": [tag.encode(), b"all"] if random.random() < 0.9 else [],
                "place": place.tolist(),
                "note": f"the {word}, again!",
                "late": str(int(score > 3)),
            }
        )
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workshop, and the signatures of a model of FEATURES with the files that bin/new writes."""
    with pytest.MonkeyPatch.context() as patch:
        workshop = Workshop(tmp_path_factory.mktemp("tables"), patch)
        workshop.write(
            "lateness",
            'column = "late"\npositive = ["1"]',
            SCHEMA,
            features=templates.features_file(FEATURES, {"miles": "of the trip"}),
            preprocessing=templates.PREPROCESSING,
            model=templates.MODEL,
        )
        settings = recommended(ROWS, "binary", FEATURES)
        export = workshop.train("lateness", rows(), hyperparameters=settings.hyperparameters)
        yield workshop, tf.saved_model.load(str(export)).signatures


@pytest.mark.slow
def test_it_learns_from_every_kind_of_feature_and_is_served_as_it_was_evaluated(trained):
    workshop, signatures = trained
    output = tft.TFTransformOutput(str(workshop.folder / "lateness/graph"))
    assert output.vocabulary_by_name("values_of_area") and output.vocabulary_by_name("values_of_note")

    held_out = rows()[: ROWS // 5]
    floats = {name: [float(row[name] or "nan") for row in held_out] for name in ("miles", "unused")}
    ints = {name: [int(row[name]) for row in held_out] for name in ("riders", "area")}
    texts = {name: [row[name] for row in held_out] for name in ("company", "note")}
    tags = [row["tags"] or [b"", b""] for row in held_out]
    asked = {name: tf.constant(values, tf.float32) for name, values in floats.items()}
    asked |= {name: tf.constant(values, tf.int64) for name, values in ints.items()}
    asked |= {name: tf.constant(values) for name, values in texts.items()}
    asked |= {"tags": tf.constant(tags), "place": tf.constant([row["place"] for row in held_out], tf.float32)}
    probabilities = signatures["raw_features"](**asked)["probability"].numpy()
    late = np.array([int(row["late"]) for row in held_out])
    auc = keras.metrics.AUC()
    auc.update_state(late, probabilities[:, 0])
    assert auc.result() > 0.93

    examples = tf.constant(
        [
            record.numpy()
            for record in tf.data.TFRecordDataset(
                str(workshop.folder / "lateness/raw/Split-eval/data_tfrecord-00000-of-00001")
            )
        ]
    )
    assert signatures["serving_default"](examples)["probability"].numpy() == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.slow
def test_a_request_may_lack_features_and_have_values_that_training_never_met(trained):
    raw = trained[1]["raw_features"]

    def ask(miles=1.0, riders=1, company="Blue", area=1, tags=("vip",), note="rain"):
        return raw(
            miles=tf.constant([miles], tf.float32),
            unused=tf.constant([float("nan")]),
            riders=tf.constant([riders], tf.int64),
            company=tf.constant([company]),
            area=tf.constant([area], tf.int64),
            tags=tf.constant([list(tags)]),
            note=tf.constant([note]),
            place=tf.constant([[0.0, 0.0]]),
        )["probability"].numpy()[0, 0]

    everything_missing = ask(float("nan"), MISSING_INT, "", MISSING_INT, ("",), "")
    strange = ask(float("inf"), 10**12, "New Co", 77, ("strange", "words"), "völlig unbekannt " * 100)
    assert np.isfinite([everything_missing, strange, ask(-1e38), ask(1e38)]).all()
    assert ask(note="RAIN!") == pytest.approx(ask(note="rain"), abs=1e-6)
    assert ask(company="New Co") == pytest.approx(ask(company="Other Co"), abs=1e-6)


def test_ranks_are_in_the_middle_of_equal_boundaries_and_outliers_stay_within_limits():
    boundaries = tf.constant([[float(min(number, 50)) for number in range(99)], [7.0] * 99])
    values = tf.constant([[0.0, 7.0], [24.5, 8.0], [50.0, 6.0], [1e30, np.inf], [np.nan, np.nan]])
    encoded = preprocessing.ranked_and_scaled(values, boundaries)
    assert encoded["ranks"].numpy()[:, 0] == pytest.approx([0, 0.25, 74 / 98, 74 / 98, 0])
    assert encoded["ranks"].numpy()[:, 1] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0])
    assert encoded["scaled"].numpy()[:, 0] == pytest.approx([-1.7, -0.9, 0.0, 3, 0], abs=0.2)
    assert (encoded["scaled"].numpy()[:, 1] == 0).all()  # a constant column tells nothing
    assert encoded["missing"].numpy()[:, 0].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("label", "first"),
    [
        (LabelSpec(kind="binary", column="y", output="probability", constant=[0.2]), [0.2]),
        (LabelSpec(kind="classes", column="y", output="", classes=["a", "b", "c"], constant=HALVES), HALVES),
        (NUMBER, [1e6]),
    ],
    ids=["binary", "classes", "number"],
)  # fmt: skip
def test_an_untrained_network_gives_the_best_constant_answer(label, first):
    settings = recommended(100, label.kind, FEATURES)
    inputs = {name: keras.Input((2,), name=name) for name in ("ranks", "scaled", "added_by_hand")}
    model = network.network(inputs, {}, settings.hyperparameters, settings.steps, label)
    answer = model.predict({name: np.random.rand(3, 2) for name in inputs}, verbose=0)
    assert answer == pytest.approx(np.array([first] * 3), abs=1e-3)


@pytest.mark.slow
def test_the_scale_of_a_number_does_not_matter():
    x = np.random.default_rng(3).random((256, 1)).astype(np.float32)
    settings = recommended(256, "number", FEATURES).hyperparameters

    def answers(scale: float) -> np.ndarray:
        y = (np.sin(6 * x) + 5) * scale
        quantiles = np.quantile(y, np.linspace(0, 1, 101)).tolist()
        label = LabelSpec(kind="number", column="y", output="", constant=[float(y.mean())], quantiles=quantiles)
        keras.utils.set_random_seed(3)
        inputs = {"ranks": keras.Input((1,), name="ranks"), "scaled": keras.Input((1,), name="scaled")}
        model = network.network(inputs, {}, settings, 16, label)
        model.fit({"ranks": x, "scaled": x}, y, batch_size=64, epochs=4, shuffle=False, verbose=0)
        return model(inputs | {"ranks": x, "scaled": x}, training=False).numpy() / scale

    small, large = answers(1e-6), answers(1e9)
    assert small.std() > 0.05
    assert small == pytest.approx(large, abs=0.01)


def test_each_member_is_judged_by_itself_while_it_trains():
    truth, answers = np.array([[1], [0]]), np.array([[[0.9], [0.1]], [[0.5], [0.5]]], np.float32)
    by_member = layers.EachMember("binary").call(truth, answers).numpy()
    assert by_member == pytest.approx([-(np.log(0.9) + np.log(0.1)) / 2, -np.log(0.5)], abs=1e-5)
    of_mean = layers.EachMember("binary").call(truth, answers.mean(axis=1)).numpy()
    assert of_mean == pytest.approx([-np.log(0.5)] * 2, abs=1e-5)
    classes = np.array([[[0.2, 0.8], [0.6, 0.4]]], np.float32)
    assert layers.EachMember("classes").call(np.array([[1]]), classes).numpy() == pytest.approx(
        [-(np.log(0.8) + np.log(0.4)) / 2], abs=1e-5
    )
    numbers = np.array([[[3.0], [5.0]]], np.float32)
    assert layers.EachMember("number", 2.0).call(np.array([[1.0]]), numbers).numpy() == pytest.approx([2.5])


def test_a_learning_rate_ends_with_the_steps_of_the_trainer():
    hyperparameters = run.Hyperparameters(recommended(100, "number", FEATURES).hyperparameters, steps=200)
    inputs = {"ranks": keras.Input((1,), name="ranks")}
    rate = network.network(inputs, {}, hyperparameters, hyperparameters.steps, NUMBER).optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 10, 200)] == pytest.approx([0, 0.002, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"numbers": ["miles"], "categories": ["miles"]}, "'miles' is named twice"),
        ({}, "names no column"),
    ],
)
def test_a_column_is_in_one_group(groups, message):
    with pytest.raises(ValueError, match=message):
        Features(**groups)


def test_a_column_that_cannot_be_read_as_features_py_says_is_named():
    text = tf.sparse.from_dense([["a"]])
    for features, message in (
        (Features(numbers=["gone"]), "'gone', and the schema has none of this name"),
        (Features(numbers=["word"]), "'word' is text in schema.pbtxt: name it under categories or texts"),
        (Features(vectors=["word"]), "needs a shape in schema.pbtxt"),
    ):
        with pytest.raises(ValueError, match=message):
            preprocessing.encode({"word": text}, features)


def test_settings_follow_from_the_rows_and_each_has_a_comment():
    for rows_, least, most in ((50, 150, 150), (12_000, 900, 1_000), (1_000_000, 2_500, 3_000)):
        settings = recommended(rows_, "binary", FEATURES)
        assert least <= settings.steps <= most and isinstance(settings.steps, int)
        assert settings.comments.keys() == {"steps", "batch_size", *settings.hyperparameters}


def test_features_py_reads_back_as_it_was_written():
    namespace = {}
    exec(templates.features_file(FEATURES, {"miles": "of the\ntrip"}), namespace)
    assert namespace["FEATURES"] == FEATURES


def test_a_change_of_the_default_model_is_noticed_by_the_cache(tmp_path):
    folder = tmp_path / "include/models/new"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(templates.MODEL)
    (folder / "preprocessing.py").write_text(templates.PREPROCESSING)
    (folder / "features.py").write_text(templates.features_file(FEATURES))
    (tmp_path / "include/nightly").symlink_to(network.__file__.split("/training/")[0])
    for module, reached in (("model", "network"), ("model", "layers"), ("preprocessing", "preprocessing")):
        assert f"include/nightly/training/tabular/{reached}.py" in sources_of(
            [f"include.models.new.{module}"], tmp_path
        )
