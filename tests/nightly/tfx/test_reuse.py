"""What an earlier night has done is taken over when data, code and config are the same, and only then."""

import concurrent.futures
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.orchestration.portable.mlmd import execution_lib

from nightly.cli import night as nights
from nightly.io.paths import ROOT
from nightly.models import config_of, load_config
from nightly.records.config import Pipeline
from nightly.records.night import Night, SnapshotRef, utc_now
from nightly.records.reuse import CacheEntry, Reuse
from nightly.records.schema import SchemaProposal
from nightly.release.store import ReleaseStore
from nightly.schemas.store import SchemaStore, sha256
from nightly.tfx import reuse, seals
from nightly.tfx.components.release import known
from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata, kept
from nightly.tfx.pipeline import create_pipeline, read_inputs
from nightly.tfx.recipe import recipe
from nightly.tfx.retention import prune
from nightly.tfx.runner import NightlyLauncher, _inputs, run_node
from tests.support import releases as models

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATA = ("examples", "statistics", "schema", "example_validator", "drift_skew", "data_gate")


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory):
    """A copy of the sources, whose hashes stand for those of the code that runs."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "include", root / "include", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "ROOT", root)
        yield root


@pytest.fixture(scope="module")
def paths(module_places):
    return module_places


@pytest.fixture(scope="module")
def first(paths):
    """A night of real taxi trips up to its trained model; nobody has done any of it before."""
    assert nights.main(["taxi", "--as-of", "2015-05-01", "--until", "trainer", "--train-steps", "5"]) == 0
    (folder,) = (paths.nights / "taxi").iterdir()
    return folder


@pytest.fixture
def another(first, paths, request):
    """Makes another night of the same snapshot, with changes to its request."""
    numbers = iter(range(1000))

    def make(**changes) -> Path:
        name = f"{request.node.name[:40]}-{next(numbers)}"
        night = Night.load(first / "request.json").model_copy(update={"run_id": name, **changes})
        folder = night.save(night.folder(paths) / "request.json").parent
        SnapshotRef.load(first / "snapshot.json").save(folder / "snapshot.json")
        return folder

    return make


def run(folder, paths, *nodes) -> dict[str, Reuse]:
    """Run the nodes; what those that can be spared said."""
    for node in nodes:
        run_node(node, folder, paths)
    files = {node: folder / Reuse.FILE.format(node) for node in nodes}
    return {node: Reuse.load(path) for node, path in files.items() if path.exists()}


def made(paths, node, run_id):
    """The node's executions in a run, and the artifacts of each."""
    with NightlyMetadata(paths, "taxi") as handle:
        contexts = [
            handle.store.get_context_by_type_and_name(*of)
            for of in (("pipeline_run", run_id), ("node", f"taxi.{node}"))
        ]
        found = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
        found.sort(key=lambda execution: execution.id)
        outputs = [execution_lib.get_output_artifacts(handle, execution.id) for execution in found]
    return [(e, [a.mlmd_artifact for group in o.values() for a in group]) for e, o in zip(found, outputs, strict=True)]


def test_a_night_that_nobody_has_done_is_computed_and_says_so(first):
    said = Reuse.load(first / Reuse.FILE.format("examples"))
    assert (said.run_id, said.reason) == ("", "no earlier run of it is known")


def test_the_same_data_code_and_config_are_not_computed_again_whatever_the_run_and_its_date(first, another, paths):
    earlier = Night.load(first / "request.json")
    later = another(as_of=earlier.as_of.replace(year=2016), planned_at=earlier.planned_at.replace(year=2030))
    said = run(later, paths, *DATA, "transform", "trainer")
    assert set(said) == {"examples", "statistics", "example_validator", "transform", "trainer"}, (
        "what judges always runs"
    )
    assert {reuse.run_id for reuse in said.values()} == {earlier.run_id}
    assert "the same snapshot" in said["examples"].reason
    assert f"{earlier.run_id} (as of 2015-05-01)" in said["trainer"].reason

    ((execution, ours),) = made(paths, "statistics", later.name)
    ((_, theirs),) = made(paths, "statistics", earlier.run_id)
    assert execution.last_known_state == Execution.CACHED
    assert [a.state for a in (*ours, *theirs)] == [Artifact.LIVE] * 2
    assert ours[0].uri != theirs[0].uri
    assert ours[0].properties["split_names"] == theirs[0].properties["split_names"]
    files = [Path(artifact.uri) / "Split-train/FeatureStats.pb" for artifact in (*ours, *theirs)]
    assert files[0].samefile(files[1]), "a link, no copy"


def test_a_changed_parameter_is_computed_and_what_is_before_it_is_reused(another, paths):
    said = run(another(train_steps=6), paths, *DATA, "transform", "trainer")
    assert [node for node in said if not said[node].run_id] == ["trainer"]
    assert said["trainer"].reason.startswith("its parameter train_args has changed since ")


def differs(folder, paths) -> dict[str, str]:
    """The nodes that would be computed again if the night were run now, and why."""
    night = Night.load(folder / "request.json")
    pipeline = compiler.Compiler().compile(create_pipeline(read_inputs(night, paths)))
    parameter = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: night.run_id}
    runtime_parameter_utils.substitute_runtime_parameter(pipeline, parameter)
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    handle, found = NightlyMetadata(paths, "taxi"), {}
    for node in (entry.pipeline_node for entry in pipeline.nodes):
        if (name := node.node_info.id) in ("examples", "statistics", "example_validator", "transform", "trainer"):
            executor = runner_utils.extract_executor_spec(deployment, name)
            inputs = _inputs(node, handle)
            cache = reuse.NodeCache(handle, node, pipeline, executor, night, inputs, seals.check(inputs))
            ((execution, _),) = made(paths, name, night.run_id)
            earlier = CacheEntry.parse(kept(execution, reuse.PROPERTY), where=name)
            longest = max(len(value.string_value.encode()) for value in execution.custom_properties.values())
            assert longest < 2704, "PostgreSQL indexes no longer property"
            if cache.ingredients != earlier.ingredients:
                found[name] = cache._difference(earlier)
    return found


@pytest.mark.parametrize(
    ("path", "computed"),
    [
        ("include/models/taxi/preprocessing.py", {"transform"}),  # and the trainer, by its inputs
        ("include/models/taxi/model.py", {"trainer"}),
        ("include/models/taxi/features.py", {"transform", "trainer"}),
        ("include/nightly/training/export.py", {"trainer"}),
        ("include/nightly/tfx/components/statistics.py", {"statistics"}),
        ("include/nightly/tfx/components/data_gate.py", set()),
    ],
)
def test_changed_code_is_run_again_and_named(path, computed, first, paths, project):
    assert differs(first, paths) == {}
    before = (project / path).read_bytes()
    (project / path).write_bytes(before + b"# changed\n")
    try:
        found = differs(first, paths)
    finally:
        (project / path).write_bytes(before)
    assert found.keys() == computed
    assert all(why.startswith(f"{path} has changed since ") for why in found.values())


@pytest.mark.parametrize(
    ("section", "change", "computed"),
    [
        ("data", {"eval_percent": 33}, {"examples", "transform", "trainer"}),
        ("training", {"batch_size": 77}, {"transform", "trainer"}),
        ("data_gate", {"min_rows": 7}, set()),
        ("retention", {"runs": 3}, set()),
    ],
)
def test_changed_config_is_computed_again_where_it_is_read(section, change, computed, first, paths, monkeypatch):
    config = config_of(Night.load(first / "request.json"))
    changed = config.model_copy(update={section: getattr(config, section).model_copy(update=change)})
    monkeypatch.setattr("nightly.models.load_config", lambda name: changed)
    assert differs(first, paths).keys() == computed


def test_comments_and_the_place_of_a_schema_are_no_change_of_it(another, first, paths, project):
    """As after `bin/schema adopt`, or where an approved version says the same as the curated schema."""
    curated = project / "include/models/taxi/schema.pbtxt"
    curated.write_text("# adopted\n" + curated.read_text())
    assert differs(first, paths) == {}

    schemas = SchemaStore(paths, "taxi")
    text = schemas.text(0)
    proposal = SchemaProposal(
        model="taxi", run_id="r", as_of=utc_now(), base_version=0, base_sha256=sha256(text), changes=[], diff="",
        text=f"{text}# approved\n", left=[], proposed_at=utc_now(),
    )  # fmt: skip
    version = schemas.approve(proposal, by="ann", reason="a comment").version
    said = run(another(schema_version=version), paths, *DATA, "transform", "trainer")
    assert all(reuse.run_id for reuse in said.values()), said

    night = Night.load(first / "request.json")
    recipes = {recipe(night, "5a17", schemas.path(number)) for number in (0, version)}
    assert len(recipes) == 1
    other = schemas.folder / "other.pbtxt"
    other.write_text(text + 'feature { name: "new" type: INT }\n')
    recipes |= {recipe(night, "5a17", other), recipe(night, "5a18", schemas.path(0))}
    recipes |= {recipe(night.model_copy(update={"train_steps": 6}), "5a17", schemas.path(0))}
    assert len(recipes) == 4
    moved = {"as_of": utc_now(), "run_id": "r", "fresh": True, "overrides": {"data_gate.min_rows": 7}}
    assert recipe(night.model_copy(update=moved), "5a17", schemas.path(0)) in recipes


def test_a_run_can_be_asked_to_compute_everything_anew_and_later_ones_reuse_that(another, paths):
    fresh = another(fresh=True)
    assert "anew" in run(fresh, paths, "examples")["examples"].reason
    assert run(another(), paths, "examples")["examples"].run_id == fresh.name


def test_reuse_can_be_switched_off(another, paths, monkeypatch):
    off = load_config("taxi").model_copy(update={"pipeline": Pipeline(reuse=False)})
    monkeypatch.setattr("nightly.models.load_config", lambda name: off)
    assert run(another(), paths, "examples") == {}


def test_damaged_and_missing_files_are_not_reused_and_that_is_said(another, paths):
    one = another(fresh=True)
    run(one, paths, "examples")
    ((_, (artifact,)),) = made(paths, "examples", one.name)
    file = Path(artifact.uri) / "Split-eval/data_tfrecord-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-1])
    two = another()
    assert run(two, paths, "examples")["examples"].run_id not in ("", one.name), "an older run's are whole"

    with NightlyMetadata(paths, "taxi") as handle:
        for artifact in handle.store.get_artifacts_by_type("Examples"):
            shutil.rmtree(artifact.uri, ignore_errors=True)
    said = run(another(), paths, "examples")["examples"]
    assert said.run_id == ""
    assert f"examples of {one.name}" in said.reason
    assert "is damaged or missing" in said.reason


def test_neither_retention_nor_a_retry_of_one_run_takes_what_another_has_reused(another, paths):
    one = another(fresh=True)
    run(one, paths, *DATA[:2])
    two, three = another(), another()
    for each in (two, three, two):  # and again
        assert run(each, paths, *DATA[:2])["statistics"].run_id == one.name
    states = [[a.state for _, found in made(paths, "statistics", each.name) for a in found] for each in (one, two)]
    assert states == [[Artifact.LIVE], [Artifact.ABANDONED, Artifact.LIVE]]

    (one / "verdict.json").write_text("{}")
    with NightlyMetadata(paths, "taxi") as handle:
        assert prune(handle, paths, "taxi", keep=2)
    assert not Path(made(paths, "statistics", one.name)[0][1][0].uri).exists()
    run(three, paths, "schema", "example_validator")
    assert run(another(), paths, "examples")["examples"].run_id == one.name


def test_nights_at_once_reuse_the_same_work(another, paths):
    run(another(fresh=True), paths, "examples")
    folders = [another() for _ in range(6)]
    with concurrent.futures.ProcessPoolExecutor(6, mp_context=multiprocessing.get_context("fork")) as pool:
        said = list(pool.map(run, folders, [paths] * 6, ["examples"] * 6))
    assert len({reuse["examples"].run_id for reuse in said} - {""}) == 1


def test_a_step_killed_while_it_takes_work_over_leaves_one_output_to_its_retry(another, paths):
    run(another(fresh=True), paths, "examples")
    folder = another()
    if (child := os.fork()) == 0:
        reuse.link_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        run_node("examples", folder, paths)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert run(folder, paths, "examples")["examples"].run_id
    (killed, nothing), (_, (artifact,)) = made(paths, "examples", folder.name)
    assert (killed.last_known_state, nothing) == (Execution.CANCELED, [])
    assert artifact.state == Artifact.LIVE
    left = {path.name for path in (paths.pipeline / "taxi/examples/examples").iterdir()}
    assert str(killed.id) not in left, "what it had begun is cleared away"


def test_what_was_made_while_the_code_changed_is_not_reused(another, paths, project, monkeypatch):
    path = project / "include/nightly/tfx/components/examples.py"
    before, launch = path.read_bytes(), NightlyLauncher.launch

    def edit_and_launch(launcher):
        path.write_bytes(before + b"# changed meanwhile\n")
        return launch(launcher)

    monkeypatch.setattr(NightlyLauncher, "launch", edit_and_launch)
    edited = another(fresh=True)
    try:
        run(edited, paths, "examples")
    finally:
        path.write_bytes(before)
    monkeypatch.undo()
    assert run(another(), paths, "examples")["examples"].run_id != edited.name


def test_the_model_in_production_is_not_released_again_and_one_that_was_taken_back_never_is(tmp_path):
    """What the release step answers to the very files of an earlier version."""
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    old, new = models.export(tmp_path / "old", "old"), models.export(tmp_path / "new", "new")
    assert known(store, old, "run-1") is None
    models.release(store, old, "run-1")
    assert known(store, old, "run-1") is None, "a retry is the store's to answer"
    answer = known(store, old, "run-2")
    assert (answer.reason, answer.withdrawn) == (
        "nothing has changed since run-1, which released this very model",
        None,
    )

    bad = models.release(store, new, "run-2", now=models.NOW + 10).version
    assert known(store, old, "run-3") is None, "an older version's model that deserves it again is a new version"
    store.roll_back(models.NOW, "callers complain")
    answer = known(store, new, "run-3")
    assert answer.withdrawn == bad
    assert "callers complain" in answer.reason
    for number in range(4):
        models.release(
            store, models.export(tmp_path / "more", str(number)), f"more-{number}", now=models.NOW + 20 + number
        )
    store.retain(2)
    assert store.disk.record(bad).state == "removed"
    assert known(store, new, "run-4").withdrawn == bad, "even when its files are gone"
    assert known(store, old, "run-4") is None, "removed for its age only"


def test_what_was_taken_back_stays_so_when_other_files_come_of_the_same_recipe(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    models.release(store, models.export(tmp_path / "old", "old"), "run-1")
    bad = store.release(models.export(tmp_path / "bad", "bad"), models.origin("run-2", recipe="the same"))
    again = models.export(tmp_path / "again", "again")
    assert known(store, again, "run-3", "the same") is None, "it is in production, and this is trained anew"
    store.roll_back(models.NOW, "callers complain")
    for run_id in ("run-2", "run-3"):
        answer = known(store, again, run_id, "the same")
        assert answer.withdrawn == bad.version
        assert answer.reason.startswith(f"the same snapshot, code and settings made version {bad.version}")
    assert known(store, again, "run-3", "another") is None and known(store, again, "run-3") is None


def test_a_damaged_version_in_production_is_released_again_whole(tmp_path):
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    version = models.release(store, source := models.export(tmp_path / "model")).version
    (store.disk.folder / str(version) / "saved_model.pb").write_bytes(b"")
    assert known(store, source, "run-2") is None
