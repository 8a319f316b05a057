"""A source that gives its password away wherever it can, as a driver might, in the real step `download`."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.nights import download as step
from nightly.records.connection import Connection
from nightly.records.source_config import SourceConfig
from nightly.sources import MODULES
from nightly.sources.base import Context, Fetched, Part
from nightly.sources.errors import RefusedError

log = logging.getLogger("nightly.sources.leaking")


def download(night_folder: Path, paths: Paths) -> dict:
    """Run the step with this source, once the file `go` is there."""
    MODULES["files"] = __name__
    (night_folder / "started").touch()
    poll((night_folder / "go").exists, every=0.05)
    return {**step.run(night_folder, paths), "modules": sorted(sys.modules)}


@dataclass
class Leaking:
    connection: Connection

    def parts(self) -> list[Part]:
        return [Part("rows", suffix=".csv")]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        password, key = self.connection.password.get_secret_value(), self.connection.extra["secret_key"]
        uri = f"postgresql://{self.connection.login}:{password}@{self.connection.host}/rows"
        log.info("connecting to %s with %s", uri, key)
        log.info("%r", self.connection)
        extra = self.connection.extra
        log.info("GET /rows?appid=%s with %s", extra["params"]["appid"], extra["headers"])
        print(f"NOTICE: password={password}", file=sys.stderr, flush=True)
        print(f"{key} is the key", flush=True)
        if self.connection.extra.get("refused"):
            raise RefusedError(f"password authentication failed for {uri} (key {key})") from ValueError(password)
        target.write_text("trip_start_timestamp,fare\n1451606400,9.5\n")
        return Fetched()


def open_source(config: SourceConfig, context: Context) -> Leaking:
    assert context.connection is not None
    return Leaking(context.connection)
