"""The labels of a feature's values, on real trips."""

from include.pipeline.checks.evidence import VALUES
from tests.include.pipeline.checks.nights import judge_night


def test_labels_are_counted_of_every_value_that_can_be_judged_and_of_no_rare_one(tmp_path):
    evidence = judge_night("taxi", "2014-02-01", tmp_path).evidence
    label, enough = evidence.config.data.label, evidence.gate.min_rows_for_value
    frequent = {
        name: [bucket.label for bucket in stats.string_stats.rank_histogram.buckets[:VALUES]]
        for name, stats in evidence.train.features.items()
        if stats.HasField("string_stats")
    }
    every = evidence.rows.label_by_value(frequent, label.column, label.positive)
    counted = [(feature, value, rows) for feature, values in every.items() for value, (rows, _) in values.items()]
    judged = [(feature, value) for feature, value, rows in counted if rows >= enough]
    rare = [(feature, value) for feature, value, rows in counted if rows < enough / 4]
    assert judged and rare
    for feature, value in judged:
        assert evidence.label_by_value[feature][value] == every[feature][value]
    assert not [value for feature, value in rare if value in evidence.label_by_value.get(feature, {})]
