"""bin/schema: what it shows of versions and proposals, and answers from the command line."""

from functools import partial

import pytest

from nightly.cli import schema as command
from nightly.records.schema import SchemaProposal
from nightly.schemas.store import answer


@pytest.fixture
def schema(bench, monkeypatch, capsys):
    """Run the command over the bench; its exit status and what it printed."""
    monkeypatch.setenv("NIGHTLY_VAR", str(bench.paths.var))
    monkeypatch.setattr(command, "SchemaStore", lambda paths, model: bench.store)
    monkeypatch.setattr(command, "answer", partial(answer, models=bench.models))

    def run(*words):
        status = command.main(list(words))
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_a_proposal_is_looked_at_and_approved(bench, schema):
    folder = bench.propose("b", run="scheduled__2016-03-01T03:00:00+00:00")
    assert (folder / SchemaProposal.FILE).exists()
    run = "scheduled__2016-03-01T03:00:00+00:00"
    assert "b: new column: INT" in schema("diff", "taxi", run)[1]
    assert "the curated schema is in force" in schema("diff", "taxi")[1]
    status, said = schema("approve", "taxi", run, "--reason", "a new meter")
    assert (status, bench.store.current()) == (0, 1), said
    assert "version 1 of taxi's schema is valid from now on" in said
    assert "+b" in schema("diff", "taxi")[1].splitlines()
    assert schema("show", "taxi")[1] == bench.store.text(1)
    assert schema("show", "taxi", "0")[1] == bench.store.text(0)
    assert "a new meter" in schema("versions", "taxi")[1]
    assert "commit it" in schema("adopt", "taxi")[1]
    assert "was put into" in schema("versions", "taxi")[1]


def test_a_proposal_is_rejected(bench, schema):
    bench.propose("b", run="night")
    assert "rejected the proposed schema change: a fault" in schema("reject", "taxi", "night", "--reason", "a fault")[1]
    assert bench.store.current() == 0


def test_a_rejection_of_what_was_approved_says_so_and_what_holds(bench, schema):
    bench.propose("b", run="night")
    schema("approve", "taxi", "night", "--reason", "a new meter")
    said = schema("reject", "taxi", "night", "--reason", "a fault")[1]
    assert "approved the proposed schema change as version 1: a new meter" in said and "Version 1 stays valid" in said
    assert bench.store.current() == 1


def test_a_night_that_proposes_nothing_names_the_nearest_that_does(bench, schema):
    bench.propose("b", run="manual__2016-03-01")
    status, said = schema("approve", "taxi", "manual__2016-03-02", "--reason", "so")
    assert status == 2
    assert "proposes no change of the schema; did you mean 'manual__2016-03-01'?" in said


def test_an_unknown_model_is_refused(schema):
    status, said = schema("versions", "taxis")
    assert status == 2 and "did you mean 'taxi'?" in said
