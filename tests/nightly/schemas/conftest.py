import datetime as dt

import pytest

from nightly.io.paths import Paths
from nightly.records.schema import SchemaChange, SchemaProposal
from nightly.schemas.store import SchemaStore, sha256
from tests.support.nights import a_night

NOW = dt.datetime(2016, 3, 1, tzinfo=dt.UTC)
CURATED = 'feature { name: "a" }  # ours\n'


class Bench:
    """A model `taxi` with a curated schema of its own, and nights that propose changes of it."""

    def __init__(self, folder):
        self.models = folder / "models"
        self.paths = Paths.from_environment({"NIGHTLY_VAR": str(folder / "var")})
        self.store = SchemaStore(self.paths, "taxi", self.models)
        self.store.curated.parent.mkdir(parents=True)
        self.store.curated.write_text(CURATED)

    def propose(self, line, run="scheduled__2016-03-01", base=None):
        """A night's proposal to add `line`, with its records; the night's folder."""
        version = self.store.current() if base is None else base
        text = self.store.text(version)
        folder = self.paths.night("taxi", run)
        SchemaProposal(
            model="taxi",
            run_id=run,
            as_of=NOW,
            base_version=version,
            base_sha256=sha256(text),
            changes=[SchemaChange(feature="b", kind="new column", old="", new="INT", risk="none")],
            diff=f"+{line}",
            text=f"{text}{line}\n",
            left=[],
            proposed_at=NOW,
        ).save(folder / SchemaProposal.FILE)
        a_night(run_id=run, trigger="scheduled").save(folder / "request.json")
        return folder

    def proposal(self, *arguments, **keywords):
        return SchemaProposal.load(self.propose(*arguments, **keywords) / SchemaProposal.FILE)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
