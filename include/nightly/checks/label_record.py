"""The record of a night's labels beside those of its controls, which the night's page draws."""

from nightly.checks.evidence import Evidence
from nightly.records.label_spec import LabelSummary
from nightly.records.labels import ControlLabels, Labels


def labels_of(evidence: Evidence) -> Labels:
    """Return the labels of the night's snapshot and of every control whose labels are known."""
    label, manifest = evidence.config.data.label, evidence.manifest
    controls = [
        ControlLabels(
            name=compared.control.name,
            title=compared.control.title,
            labels=LabelSummary.of(label, baseline.label_counts, baseline.label_quantiles),
        )
        for compared in evidence.present
        if (baseline := compared.control.baseline) and baseline.label_counts
    ]
    now = LabelSummary.of(label, manifest.label_counts, manifest.label_quantiles)
    return Labels.of(label, manifest.rows, now, controls)
