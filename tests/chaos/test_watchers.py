"""The campaign's own eyes: what breaks an invariant is seen."""

import base64
import datetime as dt
import shutil
from collections import Counter
from types import SimpleNamespace

import pytest

from nightly.io.files import hash_files
from nightly.io.paths import Paths
from nightly.records.golden import GOLDEN, Golden, GoldenExample
from nightly.records.verdict import Outcome, Verdict
from nightly_client import ServingError
from nightly_client.client import Prediction
from tests.chaos.campaign import ITSELF, Campaign, exit_status
from tests.chaos.faults import FAULTS
from tests.chaos.invariants import LEFT_FOR_NIGHTS, Invariants
from tests.chaos.ledger import Ledger
from tests.chaos.report import NightResult, Report, Trial, Violation, markdown
from tests.chaos.settings import Settings
from tests.chaos.watch import QUIET_SECONDS, Asker, Watcher
from tests.support.records import release_record

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Volume:
    """A serving volume and its records, without a server."""

    def __init__(self, var):
        self.paths = Paths.from_environment({"NIGHTLY_VAR": str(var)})
        self.temporary = var / "tmp"
        self.database = None
        self.states = {}
        self.watcher = Watcher(self.paths, "taxi", Ledger())
        self.asker = Asker("127.0.0.1:1", self.watcher)
        self.invariants = Invariants(self, self.watcher, self.asker, self.watcher.ledger)

    def release(self, version, run_id="night", state="released", probability=0.5):
        folder = self.paths.serving / "taxi" / str(version)
        example = GoldenExample(
            example_base64=base64.b64encode(b"x").decode(), features={}, outputs={"probability": [probability]}
        )
        Golden(model="taxi", examples=[example]).save(folder / GOLDEN)
        (folder / "saved_model.pb").write_text(f"{version}")
        record = release_record(
            version=version, state=state, run_id=run_id, files=hash_files(folder), path=str(folder), released_at=NOW
        )
        record.save(self.paths.releases / "taxi" / f"{version}.json")
        return folder

    def look(self, version):
        self.watcher._look(version, self.paths.serving / "taxi" / str(version))

    def verdict(self, run_id, outcome, version=None, state="success"):
        verdict = Verdict(
            model="taxi", run_id=run_id, outcome=outcome, summary="", reasons=[], version=version, decided_at=NOW
        )
        verdict.save(self.paths.night("taxi", run_id) / "verdict.json")
        self.states[run_id] = {"state": state, "note": f"**{outcome.value}**"}

    def api(self, method, path):
        return self.states[path.rpartition("/")[2]]


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path)


def test_a_whole_version_is_no_violation(volume):
    volume.release(1700000000)
    volume.look(1700000000)
    assert volume.watcher.violations == []
    assert volume.watcher.golden.keys() == {1700000000}


def test_a_version_that_is_not_whole_when_it_is_first_seen_is_one(volume):
    (volume.release(1700000000) / "saved_model.pb").unlink()
    volume.look(1700000000)
    assert "not whole" in volume.watcher.violations[0]


def test_a_version_that_comes_back_under_its_number_is_looked_at_again(volume):
    folder = volume.release(1700000000)
    volume.watcher._scan(folder.parent)
    aside = folder.rename(folder.with_name("unverified-1700000000"))
    volume.watcher._scan(folder.parent)
    (aside / "saved_model.pb").write_text("another")
    aside.rename(folder)
    volume.watcher._scan(folder.parent)
    volume.watcher._scan(folder.parent)
    (violation,) = volume.watcher.violations
    assert "not whole" in violation


def test_a_version_below_one_that_was_there_is_one(volume):
    for version in (1700000001, 1700000000):
        volume.release(version)
        volume.look(version)
    assert "appeared after 1700000001" in volume.watcher.violations[0]


def test_a_version_of_damaged_files_is_one(volume):
    files = hash_files(volume.release(1700000000))
    volume.watcher.ledger.damaged_files.add(files["saved_model.pb"])
    volume.look(1700000000)
    assert "damaged before its release" in volume.watcher.violations[0]


def test_a_version_without_a_record_is_one(volume):
    volume.release(1700000000)
    shutil.rmtree(volume.paths.releases)
    volume.look(1700000000)
    assert "without a record" in volume.watcher.violations[0]


@pytest.mark.parametrize(("answer", "violated"), [(0.5, False), (0.7, True)])
def test_an_answer_must_be_that_of_the_version_which_gave_it(volume, answer, violated):
    volume.release(1700000000)
    volume.look(1700000000)
    client = SimpleNamespace(predict=lambda *_, **__: Prediction([[answer]], 1700000000))
    for _ in range(2):  # the first tells the version
        volume.asker._ask(client)
    assert bool(volume.asker.violations) == violated


def test_an_answer_by_a_withdrawn_version_is_a_violation_after_a_while(volume):
    volume.release(1700000000, state="quarantined")
    volume.asker._must_not_be_withdrawn(1700000000)
    assert not volume.asker.violations
    volume.asker._withdrawn_since -= 60
    volume.asker._must_not_be_withdrawn(1700000000)
    assert "was quarantined" in volume.asker.violations[0]


def test_a_refusal_is_a_violation_only_while_the_server_is_there(volume):
    volume.asker.version = 1700000000
    volume.asker.away_until = -2 * QUIET_SECONDS
    volume.asker._not_answered(ServingError("NOT_FOUND", "no such label"))
    assert "was refused" in volume.asker.violations.pop()
    volume.asker._not_answered(ServingError("UNAVAILABLE", "away"))
    volume.asker._not_answered(ServingError("NOT_FOUND", "not loaded yet"))
    assert volume.asker.violations == []


def test_two_versions_of_a_run_are_a_violation(volume):
    volume.release(1700000000)
    volume.release(1700000001, state="quarantined")
    assert list(volume.invariants.one_version_a_run()) == []
    volume.release(1700000002)
    assert "2 versions are of run night" in next(volume.invariants.one_version_a_run())


def test_a_verdict_must_be_there_and_agree(volume):
    assert "has no verdict" in next(volume.invariants.verdicts_agree(["night"]))
    volume.release(1700000000)
    volume.verdict("night", Outcome.RELEASED, 1700000000)
    assert list(volume.invariants.verdicts_agree(["night"])) == []
    volume.verdict("night", Outcome.FAILED, state="failed")
    assert "is FAILED, and 1700000000 of it is released" in next(volume.invariants.verdicts_agree(["night"]))
    volume.verdict("night", Outcome.RELEASED, 1700000001)
    assert "is RELEASED with 1700000001" in next(volume.invariants.verdicts_agree(["night"]))


def test_what_stays_for_a_second_night_is_left_over(volume):
    (volume.paths.snapshots / "taxi/.building-x").mkdir(parents=True)
    found = [list(volume.invariants.nothing_is_left()) for _ in range(LEFT_FOR_NIGHTS + 1)]
    assert [len(each) for each in found] == [0] * (LEFT_FOR_NIGHTS - 1) + [1, 0]


def test_settings_are_told_on_by_their_own_command_line(tmp_path):
    settings = Settings(seed=7, faults=3, postgresql=True, only="kill step, stop host", home=tmp_path)
    assert Settings.parse(settings.arguments()) == settings


def test_the_report_counts_by_fault(tmp_path):
    report = Report("make chaos", "a machine", "abc")
    report.trials = [
        Trial("kill step", "n1", 1, "at trainer", "done", 4, "RELEASED"),
        Trial("kill step", "n2", 1, "at trainer", "done", None, "FAILED"),
    ]
    report.nights = [NightResult("n1", False, "RELEASED", 1, ""), NightResult("n2", True, "HELD_DATA", 1, "")]
    report.violations = [Violation("label", "one | two", "n1", ["kill step"])]
    report.save(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| kill step | 2 | 1 RELEASED, 1 FAILED | 4 s (4 s) | 1 |" in text
    assert "Of 1 ordinary nights 0 were RELEASED" in text
    assert "one \\| two" in text
    both = markdown([Report.load(tmp_path / "report.json")] * 2)
    assert "Together: 4 faults, 2 violations." in both
    assert "| kill step | 4 | 2 RELEASED, 2 FAILED | 4 s (4 s) | 2 |" in both


def test_a_seed_gives_the_same_faults_each_about_as_often_as_any_other(tmp_path):
    possible = {name for name, fault in FAULTS.items() if fault.needs != "postgresql"}

    def planned(seed):
        world = SimpleNamespace(settings=Settings(seed=seed), paths=None, grpc="", has_small_disk=True, no_clock="")
        campaign = Campaign(world, Report("", "", ""))
        campaign.report.nights = [NightResult("n1", True, "RELEASED", 40.0, "")]
        return [campaign._plan() for _ in range(200)]

    nights = planned(3)
    drawn = [fault.fault.name for night in nights for fault in night]
    often = Counter(drawn)
    assert often.keys() == possible
    assert max(often.values()) <= 2 * min(often.values())
    assert max(sum(fault.fault.apart for fault in night) for night in nights) == 1
    moments = [[(f.fault.name, f.moment) for f in night] for night in nights]
    assert moments == [[(f.fault.name, f.moment) for f in night] for night in planned(3)]
    assert moments != [[(f.fault.name, f.moment) for f in night] for night in planned(4)]


@pytest.mark.parametrize(
    ("invariants", "status"),
    [([], 0), (["verdict"], 1), ([ITSELF], 2), ([ITSELF, "verdict"], 1), (["verdict", ITSELF], 1)],
)
def test_a_violated_invariant_shows_in_the_exit_status_also_where_the_campaign_failed(invariants, status):
    violations = [Violation(invariant, "", "", []) for invariant in invariants]
    assert exit_status(Report("", "", "", violations=violations)) == status
