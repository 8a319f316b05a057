"""The metrics that a gate can bound, by the kind of label. docs/metrics.md defines each.

The lists are here because Airflow's environment reads the config and has no TFMA. A test computes each metric. N in a
name is a percentage that the config chooses, as in recall_at_precision_90.
"""

import re

from nightly.records.label_config import Kind

# The metrics of TFMA that fix one rate, and the argument of TFMA that takes it.
FIXED_RATES = {
    "precision_at_recall_N": "recall",
    "recall_at_false_positive_rate_N": "false_positive_rate",
    "recall_at_precision_N": "precision",
    "sensitivity_at_specificity_N": "specificity",
    "specificity_at_sensitivity_N": "sensitivity",
    "threshold_at_recall_N": "recall",
}

# Those of TFMA that are a single number for a binary classifier.
BINARY = (
    *("auc", "auc_precision_recall", "balanced_accuracy", "binary_accuracy", "binary_crossentropy", "calibration"),
    *("coefficient_of_discrimination", "diagnostic_odds_ratio", "exact_match", "f1_score", "fall_out"),
    *("false_discovery_rate", "false_negatives", "false_omission_rate", "false_positives", "fn", "fnr"),
    *("fowlkes_mallows_index", "fp", "fpr", "informedness", "markedness", "matthews_correlation_coefficient"),
    *("max_recall", "mean_absolute_error", "mean_absolute_percentage_error", "mean_label", "mean_prediction"),
    *("mean_squared_error", "mean_squared_logarithmic_error", "miss_rate", "negative_likelihood_ratio"),
    *("negative_predictive_value", "npv", "positive_likelihood_ratio", "ppv", "precision", "predicted_positive_rate"),
    *("prevalence", "prevalence_threshold", "recall", "relative_coefficient_of_discrimination"),
    *("specificity", "squared_pearson_correlation", "threat_score", "tn", "tnr", "tp", "tpr"),
    *("true_negatives", "true_positives", "weighted_example_count", *FIXED_RATES),
)
CLASSES = (
    *("accuracy", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy", "categorical_crossentropy", "macro_auc"),
    *("macro_precision", "macro_recall", "macro_f1_score", "weighted_example_count"),
)
# TFMA computes the metrics of a binary label for classes, too: over all pairs of an example and a class. Of these two,
# the first is always 0, and TFMA may divide by 0 for the second.
OF_PAIRS = tuple(name for name in BINARY if name not in (*CLASSES, "exact_match", "prevalence_threshold"))
NUMBER = (
    *("mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error"),
    *("root_mean_squared_error", "r_squared", "squared_pearson_correlation", "mean_bias", "calibration"),
    *("mean_label", "mean_prediction", "weighted_example_count"),
)
NAMES: dict[Kind, tuple[str, ...]] = {"binary": BINARY, "classes": (*CLASSES, *OF_PAIRS), "number": NUMBER}
OF_CLASSES: dict[Kind, tuple[str, ...]] = {
    "binary": (),
    "classes": ("precision", "recall", "f1_score"),
    "number": (),
}


def listed_name(name: str) -> str:
    """Return the name as NAMES has it: recall_at_precision_90 -> recall_at_precision_N."""
    stem, _, percent = name.rpartition("_")
    listed = f"{stem}_N"
    return listed if listed in FIXED_RATES and re.fullmatch("[1-9][0-9]?", percent) else name


def fixed_rate(name: str) -> dict[str, float]:
    """Return what a metric fixes, as TFMA's argument: recall_at_precision_90 -> {"precision": 0.9}."""
    listed = listed_name(name)
    return {FIXED_RATES[listed]: int(name.rpartition("_")[2]) / 100} if listed in FIXED_RATES else {}


def likeliest(name: str) -> int:
    """Return among how many of the likeliest classes a metric looks for the label: top_5_accuracy -> 5; 0 if none."""
    match = re.fullmatch(r"top_(\d+)_accuracy", name)
    return int(match[1]) if match else 0


def is_of_class(name: str) -> bool:
    """Return whether a metric of an evaluation is one class's: METRIC:CLASS."""
    return ":" in name


def of_class(metric: str, label: str) -> str:
    """Return the name of a class's metric."""
    return f"{metric}:{label}"
