"""Private parts of Beam: the parser of its own options."""

from apache_beam.options import pipeline_options as beam_options


class OptionParser(beam_options._BeamArgumentParser):
    """Parses every option that Beam knows, as Beam does."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False, add_help=False)
        for group in beam_options.PipelineOptions.__subclasses__():
            group._add_argparse_args(self)

    @property
    def option_names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]
