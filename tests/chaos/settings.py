"""What a campaign can be asked. Bounds are for two idle cores; a loaded machine needs larger ones."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nightly.io.paths import Paths


@dataclass(frozen=True)
class Settings:
    """Each is an option of `python -m tests.chaos`; `help` is what that says of it."""

    seed: int = dataclasses.field(default=1, metadata={"help": "what is done to whom and when follows from it"})
    faults: int = dataclasses.field(default=100, metadata={"help": "how many"})
    a_night: int = dataclasses.field(default=3, metadata={"help": "faults in one night, at most"})
    only: str = dataclasses.field(default="", metadata={"help": "faults by name, with commas between"})
    minutes: float = dataclasses.field(default=0, metadata={"help": "no new night begins after these; 0: no bound"})
    gap: float = dataclasses.field(default=15, metadata={"help": "seconds between two faults of a night, at least"})
    bound: float = dataclasses.field(default=900, metadata={"help": "seconds that a night may take"})
    settle: float = dataclasses.field(default=120, metadata={"help": "seconds until all agree after a night"})
    heartbeat: float = dataclasses.field(default=60, metadata={"help": "seconds until a silent task is dead"})
    step: float = dataclasses.field(default=240, metadata={"help": "seconds until Airflow ends a task that hangs"})
    retry: float = dataclasses.field(
        default=30, metadata={"help": "seconds before a first retry; later ones wait twice that"}
    )
    restart: float = dataclasses.field(default=5, metadata={"help": "seconds before a dead service is started again"})
    postgresql: bool = dataclasses.field(default=False, metadata={"help": "both databases are PostgreSQL's"})
    no_clock: bool = dataclasses.field(default=False, metadata={"help": "no clock jumps: nothing is fetched"})
    home: Path = dataclasses.field(
        default=Paths.from_environment().var / "chaos", metadata={"help": "a folder for it all; emptied first"}
    )

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser("python -m tests.chaos", description="Whole nights under faults.")
        for field in dataclasses.fields(cls):
            name, text = f"--{field.name.replace('_', '-')}", f"{field.metadata['help']} (%(default)s)"
            if isinstance(field.default, bool):
                parser.add_argument(name, action="store_true", help=field.metadata["help"])
            else:
                parser.add_argument(name, type=type(field.default), default=field.default, help=text)
        return parser

    @classmethod
    def parse(cls, arguments: list[str] | None = None) -> Settings:
        return cls(**vars(cls.parser().parse_args(arguments)))

    def arguments(self) -> list[str]:
        """The command line that gives these settings."""
        words = []
        for name, value in dataclasses.asdict(self).items():
            option = f"--{name.replace('_', '-')}"
            words += ([option] if value else []) if isinstance(value, bool) else [f"{option}={value}"]
        return words
