"""Serving skew: logged requests against the training rows of the same days."""

from collections.abc import Iterator

from nightly.checks.distances import differences, largest, named
from nightly.checks.evidence import Evidence, Served
from nightly.checks.findings import finding, not_measured
from nightly.checks.presence import missing_share
from nightly.io.hints import did_you_mean
from nightly.records.night import Reason
from nightly.training.raw_features import serving_features

CONTROL = "serving"
TITLE = "the requests to production"


def check(evidence: Evidence) -> Iterator[Reason]:
    served = evidence.serving
    if served is None or served.requests is None or served.training is None:
        why = served.about.missing if served else "no requests to the model are logged"
        yield not_measured("skew", why, control=CONTROL, title=TITLE)
        return
    for feature, why in sorted(served.about.left_out.items()):
        yield not_measured("skew", why, subject=feature, control=CONTROL, title=TITLE)
    yield from _distances(evidence, served)
    data = evidence.config.data
    for feature in serving_features(evidence.schema):
        if feature in (data.label.column, data.weight_column):
            continue  # no request has them, whatever the schema's environments are
        if feature in served.training.features and feature not in served.about.left_out:
            yield _missing(evidence, served, feature)


def _distances(evidence: Evidence, served: Served) -> Iterator[Reason]:
    for info in served.distances.drift_skew_info if served.distances else ():
        for distance in info.skew_measurements:
            feature = ".".join(info.path.step)
            if 1.0 in (missing_share(side, feature) for side in (served.requests, served.training)):
                continue  # reported by _missing
            shares = differences(served.requests.features.get(feature), served.training.features.get(feature))
            values = largest(shares)
            broken = distance.value > distance.threshold
            yield finding(
                *("skew", feature, distance.value, distance.threshold),
                f"{feature} in {TITLE} is {distance.value:.3f} away from {_rows(served)}",
                limit=f"{distance.threshold:.3f} is allowed",
                more=f"; most in {named(values)}" if values and broken else "",
                action=f"Look how the client fills {feature}: in the unit and the spelling that training has? If both "
                f"are right, run again with the threshold skew.{feature} and a reason.",
                control=CONTROL,
                **_sample(evidence, served),
                values=values,
            )


def _missing(evidence: Evidence, served: Served, feature: str) -> Reason:
    """Compare how often a feature is missing in requests and in training rows."""
    requested, trained = missing_share(served.requests, feature), missing_share(served.training, feature)
    allowed = evidence.gate.max_missing_change
    text = f"{feature} is missing in {requested:.1%} of {TITLE}, and in {trained:.1%} of {_rows(served)}"
    if feature in served.about.unreadable:
        text += f"; requests have {served.about.unreadable[feature]}, which its type in the schema does not allow"
    elif requested == 1 and served.about.unknown:
        text += "; no request has it" + did_you_mean(feature, served.about.unknown)
    return finding(
        *("max_missing_change", feature, abs(requested - trained), allowed),
        text,
        limit=f"a change of {allowed:.1%} is allowed",
        action=f'Have the client send {feature}; if the model does not read it, write not_in_environment: "SERVING" '
        "beside it in the curated schema.",
        control=CONTROL,
        **_sample(evidence, served),
    )


def _rows(served: Served) -> str:
    return served.about.rows


def _sample(evidence: Evidence, served: Served) -> dict[str, int]:
    smallest = min(served.requests.examples, served.training.examples)
    return {"sample": smallest, "enough": evidence.gate.min_rows_for_distance}
