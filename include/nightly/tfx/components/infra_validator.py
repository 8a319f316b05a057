"""Load the model in a clean process, and predict raw examples there. It takes the role of TFX's InfraValidator."""

import contextlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from nightly.examples.reading import records
from nightly.io.errors import UserError
from nightly.records.release import JUDGED
from nightly.tfx import seals
from nightly.tfx.reuse import link_file
from nightly.training.samples import add_samples

log = logging.getLogger("nightly")

EXAMPLES = 32
TIMEOUT_SECONDS = 300


class ModelNotServable(UserError):
    """The exported model does not load or does not answer in a clean process."""


@component
def CleanProcessInfraValidator(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    servable: OutputArtifact[standard_artifacts.Model],
    model_name: Parameter[str],
    judged: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Add warm-up requests and golden predictions to the model, and test it in a process with TensorFlow alone.

    `servable` is the trained model with these files in assets.extra: exactly what is released. Raises ModelNotServable
    with the last lines of the process's stderr.

    :param judged: the model that the gate judged, if `model` was trained again; `servable` has it in JUDGED
    """
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    candidate = Path(path_utils.serving_model_path(servable.uri))
    _link_tree(Path(path_utils.serving_model_path(model.uri)), candidate)
    if judged is not None:
        _link_tree(Path(path_utils.serving_model_path(judged.uri)), candidate / JUDGED)
    split = artifact_utils.get_split_uri([examples], "eval")
    with tempfile.TemporaryDirectory() as folder, _clean_process() as process:  # imports TensorFlow meanwhile
        sample = Path(folder) / "sample.tfrecord"
        golden = add_samples(str(candidate), f"{split}/*", model_name)
        with tf.io.TFRecordWriter(str(sample)) as writer:
            rows = list(islice(records(split), EXAMPLES))
            for record in rows:
                writer.write(record)
        try:
            task = [str(candidate), str(sample), golden.signatures]
            _, errors = process.communicate(json.dumps(task), TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ModelNotServable(f"the model did not answer within {TIMEOUT_SECONDS} s") from None
        if process.returncode:
            (Path(blessing.uri) / "INFRA_NOT_BLESSED").touch()
            raise ModelNotServable(
                "the exported model does not work in a clean process:\n" + "\n".join(errors.splitlines()[-15:])
            )
    # The files of `servable` are links to those of the models, or copies.
    seals.check({"model": [model], **({"judged": [judged]} if judged is not None else {})})
    (Path(blessing.uri) / "INFRA_BLESSED").touch()
    blessing.set_int_custom_property("blessed", 1)
    log.info("answered %d raw examples in a process of its own, by %s", len(rows), ", ".join(golden.signatures))


@contextlib.contextmanager
def _clean_process() -> Iterator[subprocess.Popen[str]]:
    """Start a Python process that imports TensorFlow and waits for its task on stdin; kill it on exit."""
    command = [sys.executable, "-m", "nightly.evaluation.probe"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _link_tree(source: Path, target: Path) -> None:
    """Hard-link a tree of files into another folder, or copy it where the file system has no hard links."""
    shutil.rmtree(target, ignore_errors=True)  # of an earlier attempt
    shutil.copytree(source, target, copy_function=link_file)
