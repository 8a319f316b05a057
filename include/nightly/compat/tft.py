"""Private parts of TF Transform: the functions that its Beam analyzers apply to the values of a key or token."""

from typing import Any

from tensorflow_transform import analyzers
from tensorflow_transform.beam import analyzer_impls

Ordering = analyzers._VocabOrderingType

split_inputs_by_key = analyzer_impls._split_inputs_by_key
merge_outputs_by_key = analyzer_impls._merge_outputs_by_key
join_boundary_rows = analyzer_impls._join_boundary_rows
means_by_token = analyzer_impls._flatten_to_key_and_means_accumulator_list
mutual_information = analyzer_impls._calculate_mutual_information_for_feature_value
count_and_token_to_bytes = analyzer_impls._count_and_token_to_bytes


def initialize(resource: Any) -> None:
    """Fill a lookup table of a traced function, as loading its SavedModel would."""
    resource._initialize()
