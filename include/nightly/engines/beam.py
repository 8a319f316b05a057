"""Beam, for work that outgrows one machine: on several processes of this one, on Flink or Spark, or on Dataflow.

Options are Beam's own, as on its command lines, e.g. ["--runner=FlinkRunner", "--flink_master=…"]. They are checked
before anything runs. Imports no TensorFlow, since workers import this module.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, create_runner

from nightly.compat.beam import OptionParser
from nightly.io.errors import UserError
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths, python_path
from nightly.models import config_of
from nightly.records.base import ContractError
from nightly.records.night import Night

Options = beam_options.PipelineOptions

# Beam's DirectRunner downloads and starts Prism, a program in Go that knows nothing of direct_running_mode, and takes
# FnApiRunner where it cannot. This takes FnApiRunner everywhere.
LOCAL = "FnApiRunner"
DIRECT = (None, "DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
DATAFLOW_NEEDS = {  # Beam would guess the region, and make a bucket
    "project": "--project=my-project",
    "region": "--region=europe-west4",
    "temp_location": "--temp_location=gs://my-bucket/tmp",
}
BRINGS_CODE = ("sdk_container_image", "setup_file", "extra_packages")


class BeamOptionsError(ContractError):
    """Options that Beam would not take, or with which a pipeline could not run; the message has all that is wrong."""


class BeamError(UserError):
    """A pipeline failed on its workers, in their words; their tracebacks are in the log."""


def pipeline_options(args: Sequence[str]) -> Options:
    """Beam's options object for `args`, checked by Beam's own validator. Raises BeamOptionsError."""
    options = Options(list(args))
    standard = options.view_as(beam_options.StandardOptions)
    if standard.runner in DIRECT:
        standard.runner = LOCAL
    try:
        runner = create_runner(standard.runner)
    except (ValueError, ImportError, AttributeError):
        names = [name for name in beam_options.StandardOptions.KNOWN_RUNNER_NAMES if not name.startswith("Test")]
        raise BeamOptionsError(
            f"Beam has no runner {standard.runner!r}" + did_you_mean(standard.runner, names)
        ) from None
    _check_names(args, isinstance(runner, PortableRunner))
    offline = Options(list(args))
    offline.view_as(beam_options.TestOptions).dry_run = True  # or the validator would ask the cloud about the bucket
    validator = PipelineOptionsValidator(offline, runner)
    problems = (_missing(offline, validator) if _is_dataflow(options) else []) or validator.validate()
    if problems:
        raise BeamOptionsError(f"the options of {standard.runner} are not valid: " + "; ".join(problems))
    return options


def check_reach(options: Options, paths: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse what the runner's workers cannot read or write. Raises BeamOptionsError.

    Workers of Dataflow see buckets only. Whether those of a cluster see a mount, nobody can tell from here.
    """
    if not _is_dataflow(options):
        return
    local = [str(path) for path in paths if not str(path).startswith("gs://")]
    if local:
        raise BeamOptionsError(
            f"DataflowRunner cannot read or write {', '.join(local)}: its workers see gs:// only. Give gs:// paths; "
            "or take FlinkRunner or SparkRunner on a cluster that mounts the folder under the same path."
        )


def check(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """The step that a night begins with where its config names Beam: it stops at once what could not run later."""
    options = pipeline_options(config_of(Night.load(night_folder / "request.json")).pipeline.beam_args)
    check_reach(options, [paths.snapshots, paths.pipeline])
    return {"runner": options.view_as(beam_options.StandardOptions).runner}


def pipeline(options: Options) -> beam.Pipeline:
    """A Beam pipeline: used in a `with`, it has run at its end, and has raised the runner's error if it failed."""
    # Processes that Beam starts on this machine find the project whatever folder it was started from.
    known = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*python_path().split(os.pathsep), *known]))
    return _Pipeline(options=options)


def counters(result: PipelineResult) -> dict[str, int]:
    """What the pipeline's functions have counted, by the counters' names."""
    return {found.key.metric.name: found.result or 0 for found in result.metrics().query()["counters"]}


class _Pipeline(beam.Pipeline):
    def run(self, *args: Any, **kwargs: Any) -> PipelineResult:
        try:
            return super().run(*args, **kwargs)
        except RuntimeError as error:  # of another process it is all text, the traceback first
            said = str(error).strip().splitlines()
            if len(said) > 1 and any(line.startswith("Traceback (most recent call last):") for line in said):
                raise BeamError(said[-1]) from error
            raise


class _Parser(OptionParser):
    def error(self, message: str) -> NoReturn:
        raise BeamOptionsError(f"an option of Beam is not valid: {message}")


def _check_names(args: Sequence[str], with_job_server: bool) -> None:
    """Refuse options that nobody knows, and values that are not of their option's type. Raises BeamOptionsError.

    A job server of Flink or Spark has further options, which are asked of it when a pipeline is submitted: where there
    is one, only what looks like a misspelt option of Beam's is refused.
    """
    parser = _Parser()
    names = parser.option_names
    for word in parser.parse_known_args(args)[1]:
        near = difflib.get_close_matches(word.partition("=")[0], names, n=1, cutoff=0.8 if with_job_server else 0.5)
        if near or not with_job_server or not word.startswith("--"):
            hint = f"; did you mean {near[0]!r}?" if near else "; write each as --name=value"
            raise BeamOptionsError(f"Beam has no option {word!r}{hint}")


def _missing(options: Options, validator: PipelineOptionsValidator) -> list[str]:
    """What Beam itself would ask Google Cloud for, or find out only on Dataflow's workers."""
    given = options.get_all_options(drop_default=True)
    missing = [f"{name} is missing: write {text}" for name, text in DATAFLOW_NEEDS.items() if not given.get(name)]
    if not any(given.get(name) for name in BRINGS_CODE):
        missing.append(
            "the workers would not have this project's code: write --sdk_container_image=REGISTRY/IMAGE, an image with "
            "the ML environment and include/"
        )
    buckets = options.view_as(beam_options.GoogleCloudOptions)
    for name in ("temp_location", "staging_location"):
        missing += validator.validate_gcs_path(buckets, name) if given.get(name) else []
    return missing


def _is_dataflow(options: Options) -> bool:
    return "dataflow" in options.view_as(beam_options.StandardOptions).runner.lower()
