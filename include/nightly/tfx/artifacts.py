"""Artifact types that TFX does not have."""

from tfx.types.artifact import Artifact


class DataBlessing(Artifact):
    """The data gate's decision: gate.json (GateResult), and a file named BLESSED or NOT_BLESSED."""

    TYPE_NAME = "nightly.DataBlessing"  # Kubeflow requires a prefix


# Types in stores of ML Metadata that older versions wrote -> their names today.
RENAMED = {"DataBlessing": DataBlessing.TYPE_NAME}
