"""The page of a night draws the model and the label of every kind, and says what the examples cannot tell."""

import re

import pytest

from nightly.records.distributions import Distributions, FeatureDistribution, Lengths, ValueShare
from nightly.records.evaluation import CalibrationBin, Charts, Difference, Evaluation, Histogram
from nightly.records.labels import Labels
from nightly.records.night import AGAINST_PRODUCTION, CONSTANT, GateResult
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow.web.metrics import Metric, reach
from nightly_airflow.web.records import Records
from nightly_airflow.web.render import report
from tests.support.labelled_nights import EXAMPLES, charts, write_labelled_night
from tests.support.written_nights import EVIL, reason, write_night, write_release

KINDS = ["binary", "classes", "number"]


def drawn(paths, name):
    """Return the page of a night of taxi as its file, which has every section of the page."""
    return report(Records(paths).night("taxi", name))


def change_evaluation(paths, name, **changes):
    path = paths.nights / "taxi" / name / "evaluation.json"
    Evaluation.load(path).model_copy(update=changes).save(path)


def with_charts(candidate, production=None):
    return {"charts": {"candidate": candidate, **({"production": production} if production else {})}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_and_escaped(ask, paths, kind):
    names = [write_labelled_night(paths, day, kind) for day in (0, 1)]
    page, file = ask(f"/nightly/taxi/nights/{names[1]}").text, drawn(paths, names[1])
    for text in (page, file):
        assert EVIL not in text and "&lt;script&gt;" in text
        assert not re.search(r"<[^>]+ (style|on[a-z]+)=", text), "the policy forbids them"
        assert ("Calibration by tenths of the examples" in text) is (kind != "classes")
        assert ("Right and wrong, by class" in text) is (kind != "number")
        assert ("Prediction minus label: most often" in text) is (kind == "number")
        assert "<h2>The label</h2>" in text
        assert "<strong>target</strong>" in text and "Recorded in 4,0" in text
        assert "Change of the label against last accepted: 1.2 %, threshold 5.0 %; 2 nights" in text


def test_a_change_that_the_examples_cannot_tell_is_neither_met_nor_broken(paths):
    text = drawn(paths, write_labelled_night(paths, 0, "binary"))
    assert f"≥ 0.60 ✓, drop ≤ 0.02: cannot tell on {EXAMPLES:,} examples<" in text
    assert "Notable findings that did not hold the night" in text


def test_a_difference_has_its_interval_and_a_direction_where_both_are_known(paths):
    binary = drawn(paths, write_labelled_night(paths, 0, "binary"))
    assert ">+0.0188 ± 0.0124, better</td>" in binary, "auc: higher is better, as its bound is a floor"
    assert ">+0.0063 ± 0.0041</td>" in binary, "no bound tells the direction of the loss"
    assert "90 % interval" in binary
    number = drawn(paths, write_labelled_night(paths, 1, "number"))
    assert ">+0.0423 ± 0.0278, worse</td>" in number, "the error has a ceiling: lower is better"
    assert ">+0.296 ± 0.195</td>" in number, "as many decimals as the value"
    unsure = {"": {"auc": Difference(value=0.003, error=0.01, examples=EXAMPLES)}}
    name = write_labelled_night(paths, 2, "binary")
    change_evaluation(paths, name, differences=unsure)
    assert ">+0.0030 ± 0.0165</td>" in drawn(paths, name), "neither better nor worse"


def test_where_the_gate_judges_its_own_interval_is_shown(paths):
    name = write_labelled_night(paths, 0, "binary")
    path = paths.nights / "taxi" / name / "verdict.json"
    verdict = Verdict.load(path)
    reasons = [
        r.model_copy(update={"chance": 0.0201}) if r.is_change or r.check == CONSTANT else r for r in verdict.reasons
    ]
    verdict.model_copy(update={"reasons": reasons}).save(path)
    text = drawn(paths, name)
    assert ">+0.0188 ± 0.0201</td>" in text and "by 0.0812 ± 0.0201 ✓" in text
    assert "± is the gate's own interval where it judges" in text
    assert ">+0.0063 ± 0.0041</td>" in text, "which nothing judges"


def test_what_chance_explains_in_the_data_is_no_interval_of_the_model_gate(paths):
    name = write_labelled_night(paths, 0, "binary")
    path = paths.nights / "taxi" / name / "verdict.json"
    verdict = Verdict.load(path)
    change = reason(check="max_label_change_by_value", subject="company", figure=0.2, threshold=0.25, chance=0.1)
    verdict.model_copy(update={"reasons": [*verdict.reasons, change]}).save(path)
    text = drawn(paths, name)
    assert "± is the" in text and "± is the gate's own interval" not in text


def test_the_interval_of_few_examples_is_that_of_student():
    quantiles = {5: 2.01505, 10: 1.81246, 30: 1.69726, 1000: 1.64638}  # of Student's t at 0.95, from tables
    for freedom, quantile in quantiles.items():
        assert reach(Difference(value=0, error=1, examples=freedom + 1), 0.05) == pytest.approx(quantile, rel=5e-3)


def test_the_constant_answer_is_beside_the_metrics_with_its_mark(paths):
    name = write_labelled_night(paths, 0, "number")
    better = "the squared error of log(1 + label) is better than that of the best constant answer, by 0.0812 ± 0.0033"
    assert f"{better} ✓." in drawn(paths, name)
    worse = Difference(value=-0.0005, error=0.002, examples=EXAMPLES)
    change_evaluation(paths, name, better_than_constant=worse)
    assert "is worse than that of the best constant answer, by 0.0005 ± 0.0033" in drawn(paths, name)
    change_evaluation(paths, name, better_than_constant=None)
    assert "the model is better by 0.0812 than the best constant answer" in drawn(paths, name), "the gate's own words"


def test_a_confusion_matrix_has_counts_and_shades_by_the_share_of_the_actual_class(paths):
    text = drawn(paths, write_labelled_night(paths, 0, "classes"))
    assert "1,044 of 1,204 examples are right; most often Credit card is taken for Cash, 41 times" in text
    assert 'class="n shade-10 right" title="620 of 653 of Cash are predicted as Cash">620<' in text
    assert 'title="0 of 24 of Prepaid are predicted as &lt;script&gt;' in text
    assert text.count('class="confusion"') == 2, "production's beside the new model's"
    assert "shade-0" in text


def test_a_binary_label_has_a_confusion_matrix_that_names_its_threshold(paths):
    name = write_labelled_night(paths, 0, "binary")
    text = drawn(paths, name)
    assert "a predicted class: positive if the probability is above 0.5. The stronger" in text
    assert "1,040 of 1,204 examples are right; most often positive is taken for negative, 104 times" in text
    assert "1,040 of 1,237 examples are right" in text and text.count('class="confusion"') == 2, "production's, too"
    older = charts("binary", 1.0).model_dump(include={"calibration"})
    change_evaluation(paths, name, **with_charts(Charts(**older)))
    text = drawn(paths, name)
    assert "Calibration by tenths of the examples" in text and "Right and wrong" not in text, "of an older version"


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_charts_say_so(paths, kind):
    name = write_labelled_night(paths, 0, kind)
    assert "weighted" not in drawn(paths, name).lower()
    known = charts(kind, 1.0)
    halves = [[count / 2 for count in counts] for counts in known.confusion]
    weighted = known.model_copy(update={"weighted": True, "confusion": halves})
    change_evaluation(paths, name, **with_charts(weighted, weighted))
    text = drawn(paths, name)
    if kind != "number":
        assert "A cell is weighted: the sum of its examples' weights." in text
    if kind == "binary":
        assert "520 of 602 of the weight is right; most often positive is taken for negative, 52 of the weight" in text
    if kind == "classes":
        assert 'title="20.5 of 212 of Credit card are predicted as Cash">20.5<' in text
        return
    assert "Weighted mean label by weighted mean prediction, for each tenth of the weight" in text
    assert "Calibration by tenths of the weight" in text
    if kind == "number":
        assert "Prediction minus label, share of the weight" in text and "% of the weight</title>" in text


def test_the_metrics_of_classes_are_folded_and_one_that_held_stands_with_the_rest(paths):
    text = drawn(paths, write_labelled_night(paths, 0, "classes"))
    assert "<summary>5 classes, not judged</summary>" in text
    assert text.index('>Cash</th><td class="n">653') < text.index('>Prepaid</th><td class="n">24'), (
        "frequent ones first"
    )
    held = reason(
        check="recall:Prepaid",
        subject="all examples",
        figure=0.5,
        threshold=0.6,
        held=True,
        message="recall of class Prepaid is 0.5000; at least 0.6 is required",
    )
    text = drawn(paths, write_labelled_night(paths, 1, "classes", Outcome.HELD_MODEL, held))
    before_fold = text[text.index("<h2>The model</h2>") : text.index("<summary>2 more figures")]
    assert re.search(r'class="held-row"><th scope="row"[^>]*>all examples</th><td class="n">24<', before_fold)
    assert "recall of <strong>Prepaid</strong>" in before_fold and "≥ 0.60 ✕" in before_fold
    assert "<summary>5 classes, 1 of 1 metrics held</summary>" in text
    open_ = held.model_copy(
        update={
            "check": "recall:Cash against production",
            "held": False,
            "message": "recall of class Cash; 9 examples cannot tell",
            "undecided": True,
        }
    )
    text = drawn(paths, write_labelled_night(paths, 2, "classes", Outcome.RELEASED, open_))
    assert "<summary>5 classes, none held, 1 undecided</summary>" in text


def test_metrics_that_nothing_judges_are_folded(paths):
    text = drawn(paths, write_labelled_night(paths, 0, "binary"))
    assert "<summary>3 more figures of all examples, not judged</summary>" in text
    assert text.index(">auc</td>") < text.index("<summary>3 more figures") < text.index(">precision</td>")


def test_a_model_of_another_kind_in_production_is_said_not_to_be_compared(paths):
    name = write_labelled_night(paths, 0, "number")
    why = "version 1456700000 in production predicts a label of kind 'binary', and this model one of kind 'number'"
    change_evaluation(paths, name, production=None, production_version=1456700000, unmeasured=why, differences={})
    assert "Production was not compared with: version 1456700000 in production predicts" in drawn(paths, name)


def test_the_label_stands_beside_its_controls_and_its_column_is_no_feature(paths):
    for day in range(3):
        binary = write_labelled_night(paths, day, "binary")
    text = drawn(paths, binary)
    assert "binary: positive is yes, &lt;script&gt;" in text
    assert '<td class="n">1.0 %</td><td class="n">5.0 % ✓</td>' in text, "the change since the last accepted, allowed"
    assert "Share of positives: 23.0 %; 3 nights, highest 23.0 % on 2016-03-03" in text
    features = text[text.index("<h2>The data, feature by feature</h2>") :]
    assert 'id="feature-target"' not in features and 'id="feature-target"' in text


def test_classes_are_shown_by_share_and_a_number_by_its_quantiles(paths):
    text = drawn(paths, write_labelled_night(paths, 0, "classes"))
    assert "And 4 more classes." in text
    assert re.search(
        r'>Credit card</span>.*<td class="n">1,700</td><td class="n">42.3 %</td><td class="n">41.5 %</td>', text
    )
    text = drawn(paths, write_labelled_night(paths, 1, "number"))
    assert "trained on log(1 + number)" in text
    assert re.search(r'>the last accepted snapshot \(2016-02-29\)</th>.*<td class="n">11.2</td>', text)
    assert text.count('class="box"') == 3
    assert re.search(r'<span class="muted">up to [\d.]+</span>', text), "where the change is largest"


def test_nights_whose_label_was_another_are_not_in_the_plot_of_the_label(paths):
    for day, kind in enumerate(("number", "binary", "binary")):
        name = write_labelled_night(paths, day, kind)
    assert "Share of positives: 23.0 %; 2 nights" in drawn(paths, name)


def test_a_night_of_an_older_version_has_no_section_of_the_label(ask, paths):
    name = write_labelled_night(paths, 0, "binary")
    (paths.nights / "taxi" / name / Labels.FILE).unlink()
    text = ask(f"/nightly/taxi/nights/{name}").text
    assert "<h2>The label</h2>" not in text and 'id="feature-target"' in text
    (paths.nights / "taxi" / name / Labels.FILE).write_text("{")
    assert "labels.json cannot be read" in ask(f"/nightly/taxi/nights/{name}").text


def test_without_charts_or_production_the_page_draws_what_there_is(paths):
    name = write_labelled_night(paths, 0, "number")
    change_evaluation(paths, name, **with_charts(charts("number", 1.0)), production=None, differences={})
    text = drawn(paths, name)
    assert "Calibration by tenths" in text and "> production</span>" not in text
    change_evaluation(paths, name, charts={})
    assert "Calibration" not in drawn(paths, name)


@pytest.mark.parametrize("extreme", [0.0, -1.0, 1e-300, 1e300, 1e308, -1e308])
def test_charts_survive_whatever_their_numbers_are(paths, extreme):
    name = write_labelled_night(paths, 0, "number")
    calibration = [CalibrationBin(rows=1, predicted=extreme, actual=0.5), CalibrationBin(rows=0, predicted=1, actual=1)]
    one = Charts(calibration=calibration, residuals=Histogram(edges=[extreme, extreme], rows=[3]))
    two = Charts(calibration=calibration[:1], residuals=Histogram(edges=[-1.0, 0.0, extreme], rows=[1, 2]))
    for pair in ((one, two), (two, one), (one, Charts())):
        change_evaluation(paths, name, **with_charts(*pair))
        text = drawn(paths, name)
        assert not re.search(r'(cx|cy|x|y|x1|points|width|height)="[^"]*(nan|inf|e\+)', text)


@pytest.mark.parametrize("matrix", [[[0]], [[3]], [[0, 0], [0, 0]], []])
def test_a_confusion_matrix_of_nothing_is_no_error(paths, matrix):
    name = write_labelled_night(paths, 0, "classes")
    change_evaluation(paths, name, **with_charts(Charts(classes=["a", "b"][: len(matrix)], confusion=matrix)))
    assert "<h2>The model</h2>" in drawn(paths, name)


def test_a_release_shows_the_model_as_its_night_measured_it(ask, paths):
    name = write_labelled_night(paths, 0, "classes")
    release = write_release(paths, 1456800000, metrics={"accuracy": 0.9, "recall:Cash": 0.5})
    release.save(paths.nights / "taxi" / name / "release.json")
    text = ask("/nightly/taxi/releases/1456800000").text
    assert "Right and wrong, by class" in text and "beside version 1456700000, which was in production then" in text
    assert f"/nightly/taxi/nights/{name}" in text and "saved_model.pb" in text and EVIL not in text
    models = ask("/nightly/taxi").text
    assert "accuracy 0.9" in models and "recall:Cash" not in models, "of all classes alone"
    release.model_copy(update={"version": 1456700000}).save(paths.nights / "taxi" / name / "release.json")
    assert "Right and wrong" not in ask("/nightly/taxi/releases/1456800000").text, "its night was run again since"


def test_long_texts_and_what_is_no_text_are_shown_by_their_size(paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    path = paths.nights / "taxi" / name / Distributions.FILE
    known = Distributions.load(path)
    values = [
        ValueShare(value=value, current=0.5, control=0.5) for value in ("word " * 100_000, "\x89PNG\x00" * 100_000)
    ]
    image = FeatureDistribution(name="image", type="STRING", missing_current=0, missing_control=0, values=values)
    known.model_copy(update={"features": [*known.features, image]}).save(path)
    text = drawn(paths, name)
    assert "… (500,000 characters)" in text and "(500,000 characters that are not text)" in text
    assert len(text) < 100_000


def test_of_a_feature_with_lists_the_page_says_how_many_values_a_row_has(paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    path = paths.nights / "taxi" / name / Distributions.FILE
    known = Distributions.load(path)
    words = FeatureDistribution(
        name="words",
        type="STRING",
        missing_current=0,
        missing_control=0,
        lengths_current=Lengths(fewest=1, mean=3.42, most=1200),
        values=[ValueShare(value="a", current=0.5, control=0.5)],
    )
    known.model_copy(update={"features": [*known.features, words]}).save(path)
    text = drawn(paths, name)
    assert "; values in a row: 1 to 1,200, 3.42 on average, control: 1" in text
    assert text.count("share of all values") == 1 and "share of all rows" in text


def test_a_finding_of_the_constant_answer_is_no_metric(paths):
    name = write_labelled_night(paths, 0, "number")
    folder = paths.nights / "taxi" / name
    (folder / "evaluation.json").unlink()
    text = drawn(paths, name)
    assert "The figures that the model gate judged." in text and ">mean_absolute_error</td>" in text
    gate = GateResult.load(folder / "model_gate.json")
    assert {r.check for r in gate.reasons} >= {CONSTANT, "mean_absolute_error" + AGAINST_PRODUCTION}
    assert f">{CONSTANT}</td><td" not in text


def test_the_kind_of_a_bound_is_a_field_and_inferred_of_older_findings_alone():
    fixed = reason(check="mean_absolute_error", figure=None, threshold=3.0, message="it could not be computed")
    change = reason(check="mean_absolute_error against production", figure=0.0, threshold=0.0, message="no change")
    metric = Metric("mean_absolute_error", "", None, None, None, fixed, change)
    assert metric.judged == "≥ 3.00 –, rise ≤ 0.00 ✓"
    metric.bound = fixed.model_copy(update={"bound": "ceiling"})
    metric.change = change.model_copy(update={"bound": "drop"})
    assert metric.judged == "≤ 3.00 –, drop ≤ 0.00 ✓"
