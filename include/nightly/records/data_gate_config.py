"""The section [data_gate] of config.toml: what the data must satisfy."""

from typing import Annotated, Literal

from pydantic import Field

from nightly.records.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(gt=0, le=1)]
Factor = Annotated[float, Field(ge=1)]
ControlName = Literal["last_accepted", "production", "same_weekday", "same_season"]


class DataGate(Section):
    """What the data must satisfy. Thresholds of drift and skew are in the curated schema, beside their feature.

    [Checks](../checks.md) explains each threshold, and how its default was measured.
    """

    controls: dict[ControlName, Annotated[float, Field(gt=0)]] = {
        "last_accepted": 1,
        "production": 1.5,
        "same_weekday": 1.5,  # four to eight weeks before
        "same_season": 3,  # the year before
    }
    """The controls, earlier data that a night is compared with, each with a factor. The factor multiplies the
    thresholds of drift, and every `max_…` threshold against that control: a more distant control may differ more. A
    control that is not listed is not compared."""
    min_rows: Annotated[int, Field(ge=1)] = 1000
    """Smallest number of rows in the window."""
    max_rejected_share: Share = 0.01
    """Largest share of rows that could not be read."""
    max_age_days: Annotated[float, Field(gt=0)] = 3
    """Largest age of the newest row at the end of the window, in days."""
    min_label_share: Share = 0.5
    """Smallest share of rows with a label."""
    min_rows_for_distance: Annotated[int, Field(ge=1)] = 200
    """With fewer rows, drift and skew are not measured: a distance would be due to chance."""
    min_rows_for_value: Annotated[int, Field(ge=1)] = 100
    """With fewer rows of one value, `max_label_change_by_value` is not measured: a change would be due to chance."""
    max_rows_factor: Factor = 2
    """Largest ratio, either way, of the rows to the median of the nights accepted last."""
    max_duplicate_share: Share = 0.02
    """Largest share of rows with an id that another row already has."""
    max_missing_days: Annotated[int, Field(ge=0)] = 0
    """Largest number of days without rows, where such days usually have many."""
    max_doubled_days: Annotated[int, Field(ge=0)] = 0
    """Largest number of days with far more rows than usual."""
    min_week_share: Share = 0.6
    """Smallest share of the usual rows in any seven days in a row. A week below it holds the night unless chance
    explains it."""
    max_label_change: Change = 0.05
    """Largest change of the labels, against any control: of the share of positive labels; of the share of a class; or,
    for numbers, of the share of labels up to any number."""
    max_label_change_by_value: Change = 0.25
    """The same among the rows with one value of a text or an integer. A change that chance explains never holds."""
    max_new_classes: Annotated[int, Field(ge=0)] = 0
    """Largest number of classes with `min_class_rows` rows that no control has; with `classes = "schema"`, that are not
    in the label's domain."""
    max_lost_classes: Annotated[int, Field(ge=0)] = 0
    """Largest number of classes that the last accepted snapshot or production's has, and that are nearly gone."""
    max_missing_change: Change = 0.05
    """Largest change of a feature's share of missing values, against any control."""
    max_unseen_share: Change = 0.05
    """Largest share of rows with a value that neither the control nor the schema's domain has."""
    max_range_factor: Factor = 100
    """Largest ratio of a feature's largest number to the control's largest."""
    max_scale_factor: Factor = 10
    """Largest ratio, either way, of a feature's median to the control's."""
    serving_days: Annotated[int, Field(ge=0)] = 30
    """How many days of logged requests are compared with training data. `0` compares none."""
