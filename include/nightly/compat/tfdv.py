"""Private parts of TFDV: the generators of its statistics, and the form of their results."""

from tensorflow_data_validation.arrow.arrow_util import enumerate_arrays
from tensorflow_data_validation.statistics.stats_impl import extract_statistics_output, get_generators
from tensorflow_data_validation.utils.schema_util import get_bytes_features
from tensorflow_data_validation.utils.stats_util import get_feature_type_from_arrow_type
from tensorflow_data_validation.utils.top_k_uniques_stats_util import (
    FeatureValueCount,
    make_feature_stats_proto_topk_uniques,
)

__all__ = [
    "FeatureValueCount",
    "enumerate_arrays",
    "extract_statistics_output",
    "get_bytes_features",
    "get_feature_type_from_arrow_type",
    "get_generators",
    "make_feature_stats_proto_topk_uniques",
]
