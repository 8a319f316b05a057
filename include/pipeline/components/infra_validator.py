"""InfraValidator's role: the exported model is loaded in a clean process and answers raw examples."""

import json
import logging
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

log = logging.getLogger("nightly")

EXAMPLES = 32
TIMEOUT_SECONDS = 300


class ModelNotServable(Exception):
    """The exported model does not load, or does not answer, in a process of its own."""


@component
def CleanProcessInfraValidator(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
) -> None:
    """Ask the model for predictions of raw eval examples in a process with TensorFlow alone.

    Raises ModelNotServable, with the end of what the process said.
    """
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    files = sorted(Path(artifact_utils.get_split_uri([examples], "eval")).iterdir())
    with tempfile.TemporaryDirectory() as folder:
        sample, answers = Path(folder) / "sample.tfrecord", Path(folder) / "answers.json"
        with tf.io.TFRecordWriter(str(sample)) as writer:
            for record in islice(tf.data.TFRecordDataset([str(file) for file in files]), EXAMPLES):
                writer.write(record.numpy())
        exported = path_utils.serving_model_path(model.uri)
        command = [sys.executable, "-m", "include.pipeline.probe", exported, sample, answers]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ModelNotServable(f"the model did not answer within {TIMEOUT_SECONDS} s") from None
        if done.returncode:
            (Path(blessing.uri) / "INFRA_NOT_BLESSED").touch()
            raise ModelNotServable(
                "the exported model does not work in a clean process:\n" + "\n".join(done.stderr.splitlines()[-15:])
            )
        said = json.loads(answers.read_text())
    (Path(blessing.uri) / "INFRA_BLESSED").touch()
    blessing.set_int_custom_property("blessed", 1)
    log.info(
        "answered %d raw examples in a process of its own; signatures: %s",
        len(next(iter(said["answers"].values()))),
        ", ".join(said["signatures"]),
    )
