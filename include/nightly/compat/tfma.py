"""Private parts of TFMA: its registry of metrics, the defaults of an EvalConfig, and the format of its results."""

from tensorflow_model_analysis.metrics.confusion_matrix_metrics import MAX_RECALL_NAME, ConfusionMatrixMetric
from tensorflow_model_analysis.metrics.metric_types import registered_metrics
from tensorflow_model_analysis.utils.config_util import update_eval_config_with_defaults
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_slice_metrics_to_proto

__all__ = [
    "MAX_RECALL_NAME",
    "ConfusionMatrixMetric",
    "convert_slice_metrics_to_proto",
    "registered_metrics",
    "update_eval_config_with_defaults",
]
