"""Private parts of Beam: the parser of its own options, and the request of its Dataflow client."""

from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options import pipeline_options as beam_options

ENVIRONMENT_VERSION = "8"  # of Dataflow's job format, as Beam's client sends it


class OptionParser(beam_options._BeamArgumentParser):
    """Parses every option that Beam knows, as Beam does."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False, add_help=False)
        for group in beam_options.PipelineOptions.__subclasses__():
            group._add_argparse_args(self)

    @property
    def option_names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]


def dataflow_environment(job: Any) -> Any:
    """Return the environment in the request that starts the job.

    :param job: of a dry run of Beam's Dataflow runner
    """
    from apache_beam.runners.dataflow.internal.apiclient import Environment  # needs Google's client libraries

    return Environment(
        packages=[],
        options=job.options,
        environment_version=ENVIRONMENT_VERSION,
        proto_pipeline_staged_url=FileSystems.join(job.google_cloud_options.staging_location, "pipeline.pb"),
        proto_pipeline=job.proto_pipeline,
    ).proto
