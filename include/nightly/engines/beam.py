"""Run work that outgrows one machine on Beam: in local processes, on other hosts, on Flink or Spark, or on Dataflow.

Options are Beam's own, as on its command lines, e.g. ["--runner=FlinkRunner", "--flink_master=…"]. They are checked
before anything runs. Imports no TensorFlow, since workers import this module.
"""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, create_runner

from nightly.compat.beam import OptionParser
from nightly.compat.beam_hosts import LOST, PoolNotReachedError, runner_on
from nightly.io import variables
from nightly.io.errors import UserError
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths, python_path
from nightly.models import config_of
from nightly.records.base import ContractError
from nightly.records.night import Night

Options = beam_options.PipelineOptions

# Beam's DirectRunner downloads and starts Prism, a program in Go that ignores direct_running_mode, and only falls back
# to FnApiRunner. FnApiRunner alone is the same on every machine.
LOCAL = "FnApiRunner"
DIRECT = (None, "DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
DATAFLOW_NEEDS = {  # without these Beam would guess the region and create a bucket
    "project": "--project=my-project",
    "region": "--region=europe-west4",
    "temp_location": "--temp_location=gs://my-bucket/tmp",
}
WRONG_RUNNERS = {  # they end without an error, and without all results
    "dask": "it loses tagged outputs, what finish_bundle yields, and all branches of a job but the last",
    "render": "it draws the job and does not run it",
}
POOL = re.compile(r"\S+:\d+")
BRINGS_CODE = ("sdk_container_image", "setup_file", "extra_packages")


class BeamOptionsError(ContractError):
    """Beam refuses the options, or a pipeline could not run with them. The message lists every problem."""


class BeamError(UserError):
    """A pipeline failed on its workers. The message is the workers' error; their tracebacks are in the log."""


def pipeline_options(args: Sequence[str]) -> Options:
    """Return Beam's options object for `args`, checked by Beam's own validator. Raises BeamOptionsError."""
    options = Options(list(args))
    standard = options.view_as(beam_options.StandardOptions)
    if standard.runner in DIRECT:
        standard.runner = LOCAL
    _refuse_wrong(standard.runner)
    try:
        runner = create_runner(standard.runner)
    except (ValueError, ImportError, AttributeError):
        names = [name for name in beam_options.StandardOptions.KNOWN_RUNNER_NAMES if not name.startswith("Test")]
        raise BeamOptionsError(
            f"Beam has no runner {standard.runner!r}" + did_you_mean(standard.runner, names)
        ) from None
    _check_names(args, isinstance(runner, PortableRunner))
    offline = Options(list(args))
    offline.view_as(beam_options.TestOptions).dry_run = True  # otherwise the validator sends a request for the bucket
    validator = PipelineOptionsValidator(offline, runner)
    problems = (_missing(offline, validator) if _is_dataflow(options) else []) or validator.validate()
    if problems:
        raise BeamOptionsError(f"the options of {standard.runner} are not valid: " + "; ".join(problems))
    if pools := _pools(options):
        direct = options.view_as(beam_options.DirectOptions)
        direct.direct_num_workers = max(direct.direct_num_workers, len(pools))
    return options


def check_reach(options: Options, paths: Iterable[str | os.PathLike[str]]) -> None:
    """Raise BeamOptionsError for paths that the runner's workers cannot read or write.

    Dataflow's workers see buckets only. Whether the workers of a cluster see a mount cannot be checked from here.
    """
    local = [str(path) for path in paths if not str(path).startswith("gs://")]
    if _is_dataflow(options) and local:
        raise BeamOptionsError(
            f"DataflowRunner cannot read or write {', '.join(local)}: its workers see gs:// only. Give gs:// paths; "
            "or use FlinkRunner or SparkRunner on a cluster that mounts the folder under the same path."
        )


def check(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Check the Beam options at the beginning of a night, before work that would be lost; return the runner."""
    config = config_of(Night.load(night_folder / Night.FILE))
    options = pipeline_options(config.pipeline.beam_args)
    address = variables.STATE.read() or str(paths.var)
    if _is_dataflow(options) and "://" not in address:
        raise BeamOptionsError(
            f"DataflowRunner's workers cannot reach the state in {address}: they see buckets only. Set NIGHTLY_STATE "
            "to one, e.g. gs://my-bucket/nightly; or use workers that mount the folder under the same path."
        )
    return {"runner": options.view_as(beam_options.StandardOptions).runner}


def pipeline(options: Options) -> beam.Pipeline:
    """Return a Beam pipeline. As a context manager, it runs at the end of the block, and raises the runner's error."""
    # Beam's local processes need the project on their path, whatever folder this process started in.
    existing = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*python_path().split(os.pathsep), *existing]))
    pools = _pools(options)
    return _Pipeline(runner=runner_on(pools) if pools else None, options=options)


class _Pipeline(beam.Pipeline):
    def run(self, *args: Any, **kwargs: Any) -> PipelineResult:
        try:
            return super().run(*args, **kwargs)
        except RuntimeError as error:  # an error of another process is text that begins with the traceback
            lines = str(error).strip().splitlines()
            of_worker = any(line.startswith("Traceback (most recent call last):") for line in lines)
            if (len(lines) > 1 and of_worker) or isinstance(error, PoolNotReachedError) or LOST in str(error):
                raise BeamError(lines[-1]) from error
            raise


class _Parser(OptionParser):
    def error(self, message: str) -> NoReturn:
        raise BeamOptionsError(f"an option of Beam is not valid: {message}")


def _refuse_wrong(runner: str) -> None:
    """Raise BeamOptionsError for a runner that is known to be wrong."""
    name = runner.rpartition(".")[2]
    if reason := WRONG_RUNNERS.get(name.lower().removesuffix("runner")):
        raise BeamOptionsError(f"{name} is not used, since {reason}; use FnApiRunner, FlinkRunner or DataflowRunner")


def _pools(options: Options) -> list[str]:
    """Return the worker pools of other hosts, HOST:PORT, that FnApiRunner's workers run in; [] for local workers.

    Raises BeamOptionsError for an address of another form, and for workers that must be local.
    """
    standard = options.view_as(beam_options.StandardOptions)
    portable = options.view_as(beam_options.PortableOptions)
    if standard.runner != LOCAL or portable.environment_type != "EXTERNAL":
        return []
    address = portable.environment_config or portable.lookup_environment_option("external_service_address")
    pools = [pool.strip() for pool in address.split(",")]
    if wrong := [pool for pool in pools if not POOL.fullmatch(pool)]:
        raise BeamOptionsError(
            f"--environment_config names no worker pool: {wrong[0]!r}; write HOST:PORT, with commas between several"
        )
    if options.view_as(beam_options.DirectOptions).direct_running_mode != "in_memory":
        raise BeamOptionsError(
            "--direct_running_mode is for processes of this host: leave it out with EXTERNAL workers"
        )
    return pools


def _check_names(args: Sequence[str], with_job_server: bool) -> None:
    """Raise BeamOptionsError for unknown options, and for values of the wrong type.

    A job server of Flink or Spark has further options, which Beam requests when a pipeline is submitted. With a job
    server, only options that resemble one of Beam's are refused, as misspelt.
    """
    parser = _Parser()
    names = parser.option_names
    for unknown in parser.parse_known_args(args)[1]:
        near = difflib.get_close_matches(unknown.partition("=")[0], names, n=1, cutoff=0.8 if with_job_server else 0.5)
        if near or not with_job_server or not unknown.startswith("--"):
            hint = f"; did you mean {near[0]!r}?" if near else "; write each as --name=value"
            raise BeamOptionsError(f"Beam has no option {unknown!r}{hint}")


def _missing(options: Options, validator: PipelineOptionsValidator) -> list[str]:
    """Return the problems that Beam would report only after requests to Google Cloud, or on Dataflow's workers."""
    values = options.get_all_options(drop_default=True)
    missing = [f"{name} is missing: write {text}" for name, text in DATAFLOW_NEEDS.items() if not values.get(name)]
    if not any(values.get(name) for name in BRINGS_CODE):
        missing.append(
            "the workers would not have this project's code: write --sdk_container_image=REGISTRY/IMAGE, an image with "
            "the ML environment and include/"
        )
    buckets = options.view_as(beam_options.GoogleCloudOptions)
    for name in ("temp_location", "staging_location"):
        missing += validator.validate_gcs_path(buckets, name) if values.get(name) else []
    return missing


def _is_dataflow(options: Options) -> bool:
    return "dataflow" in options.view_as(beam_options.StandardOptions).runner.lower()
