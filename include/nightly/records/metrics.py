"""The metrics that a gate can bound: those of TFMA that are a single number for a binary classifier.

The list is here because Airflow's environment reads the config and has no TFMA. A test computes each metric.
"""

NAMES = (
    *("auc", "auc_precision_recall", "balanced_accuracy", "binary_accuracy", "binary_crossentropy", "calibration"),
    *("coefficient_of_discrimination", "diagnostic_odds_ratio", "exact_match", "f1_score", "fall_out"),
    *("false_discovery_rate", "false_negatives", "false_omission_rate", "false_positives", "fn", "fnr"),
    *("fowlkes_mallows_index", "fp", "fpr", "informedness", "markedness", "matthews_correlation_coefficient"),
    *("max_recall", "mean_absolute_error", "mean_absolute_percentage_error", "mean_label", "mean_prediction"),
    *("mean_squared_error", "mean_squared_logarithmic_error", "miss_rate", "negative_likelihood_ratio"),
    *("negative_predictive_value", "npv", "positive_likelihood_ratio", "ppv", "precision", "predicted_positive_rate"),
    *("prevalence", "prevalence_threshold", "recall", "relative_coefficient_of_discrimination"),
    *("specificity", "squared_pearson_correlation", "threat_score", "tn", "tnr", "tp", "tpr"),
    *("true_negatives", "true_positives", "weighted_example_count"),
)
