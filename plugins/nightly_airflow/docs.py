"""The texts of the Airflow UI about the DAG and its tasks: what each task does, and what to do when it fails."""

from nightly.records.config import ModelConfig
from nightly_airflow.pool import DEFAULT, pool_of_steps

DAG_DOC = """\
### {config.description}

Every night at `{config.schedule.cron}` ({config.schedule.timezone}): download {window},
write an immutable snapshot, check it, train, compare the model with the one in production, and release it only if
both gates pass.

- **The verdict** is in the run's note and in the task `verdict`: RELEASED, ACCEPTED (good, but not asked to
  release), HELD_DATA, HELD_MODEL, NO_DATA or FAILED, with every reason, its value and its threshold.
- **A held night is green**: the gates did their work, and the version in production stays. Its note says why.
- **Trigger** it with the form. With an empty form, the run does what a scheduled run would do now.
- **Backfill**: `airflow backfill create --dag-id {config.name}_retrain --from-date … --to-date … --max-active-runs 1`.
  One run at a time, so that each night is compared with the one before. It does not release
  without `--dag-run-conf '{{"release": "yes"}}'`.
- **Rerun**: clear any task, with its downstream tasks. A night is never released twice.
- **Pool of the steps**: {pool}

Owner: {config.owner}. The model's code and config: `include/models/{config.name}`.
"""

NO_POOL = """\
Airflow's default pool, because this Airflow's DAG processor does not load the plugin. To limit only these
  steps, create a pool and name it in `NIGHTLY_POOL`."""


def dag_doc(config: ModelConfig) -> str:
    """Return the text of a model's DAG."""
    days = f"the last {config.data.look_back_days} days"
    name = pool_of_steps()
    pool = NO_POOL if name == DEFAULT else f"`{name}`. Its slots limit how many steps of all models run at once."
    return DAG_DOC.format(config=config, window=days if config.data.time_column else "all rows", pool=pool)


TASK_DOCS = {
    "plan": """\
Writes what the night works on (as-of time, window, train steps, thresholds) to its `request.json`.
Hides a version whose release died before it was verified, and repairs damaged files in production.

**If it fails**: the error says why. The form's values or the model's config are not valid: it names the key. Or the
disk is full. Or files in production are damaged and could not be repaired. Trigger again with valid values; after
another cause, clear the task when that is mended.""",
    "download": """\
Fetches the parts of the window that earlier nights have not fetched.
The log says what was reused, and what has changed at the source.

**If it fails**: four tries failed, or the source refused the request. Clear the task when the source is back or the
connection is right: it continues with the missing parts.""",
    "snapshot": """\
Writes an immutable, content-addressed snapshot; unreadable rows are set aside with their reasons.
Without any rows, all other tasks are skipped and the verdict is NO_DATA.

**If it fails**: too many rows could not be read, or the time column does not match the config.""",
    "examples": """\
Turns the snapshot into training and evaluation examples, split by a hash of the row's id, or by day.

**If it fails**: a column is missing or has another type; compare the snapshot's manifest with the model's config.""",
    "schema": """\
Publishes the model's curated schema: types, domains, environments, and the comparators for drift and skew.

**If it fails**: `schema.pbtxt` of the model cannot be read.""",
    "statistics": """\
Computes TFDV's statistics of each split.

**If it fails**: clear it; if it fails again, check memory first.""",
    "example_validator": """\
Compares the statistics with the schema and records the anomalies; the data gate judges them.

**If it fails**: the statistics or the schema are missing; clear those with their downstream tasks.""",
    "drift_skew": """\
Measures drift against each control of the config, and skew between the splits; the data gate judges them.

**If it fails**: the statistics of a control cannot be read, or a comparator of the schema does not fit.""",
    "data_gate": """\
Decides whether the data is good enough to train on. It logs every finding with value and threshold. If it holds the
night, the later tasks are skipped and production stays.

**If it holds**: fix the source, or trigger the night again with a threshold replaced and a reason.""",
    "schema_review": """\
If nothing but the schema holds the night, this task shows the change that the schema needs, and waits for a person
(*Required Actions*). An approval writes a new version of the schema. The task is skipped in all other nights, and in
backfills.

**If it waits**: approve a correct change with a reason; reject a wrong one. Without an answer the night stays held.""",
    "data_gate_again": """\
After an approved change of the schema: reads the data and decides again, with the new version.

**If it holds**: the change did not lift every finding; the log lists the others.""",
    "transform": """\
Applies the model's `preprocessing_fn` with TF Transform; the graph goes into the model, so serving does the same.

**If it fails**: the error names the feature.""",
    "trainer": """\
Trains the model and exports it with the transform inside.

**If it fails**: check the loss in its log, then memory.""",
    "evaluator": """\
Scores the new model and the one in production on the same examples, overall and per slice.

**If it fails**: the version in production may not take today's examples any more.""",
    "model_gate": """\
Decides whether the model is good enough to release: by fixed bounds, and by the change from the version in production,
overall and per slice. If the files in production are damaged beyond repair, `[model_gate] damaged_production` decides
whether fixed bounds suffice.

**If it holds**: production stays. The table in its log says which metric, where, and by how much.""",
    "refit": """\
Trains the model again on all rows, after the gate has judged the one that was trained without the newest days, and
replaces it for the release. Only models with `[training] refit = true` have this task.

**If it fails**: check the loss in its log, then memory.""",
    "infra_validator": """\
Loads the exported model in a clean process and sends it raw examples, as a server would.

**If it fails**: the model cannot be served; it is not released.""",
    "release": """\
Copies the model atomically into the volume that TensorFlow Serving watches, as a new version, and records it. The
server must then load it and give the model's own predictions of the golden examples. If it does, the version gets the
label `stable`; otherwise it is quarantined. If the server does not answer, the version is hidden (`unverified`) until a
retry verifies it. Each model releases one version at a time. Skipped when the run is not asked to release.

**If it fails**: the previous version stays; clear it to try again. A version is never released twice.""",
    "verdict": """\
Decides the night's outcome, whatever happened: see the run's note, or *Rendered Templates* here. It fails when
another task failed, so that the run fails.

**If it fails**: fix the cause, then clear the failed task that the error names, with its downstream tasks.""",
}


def when_it_fails(task: str) -> str:
    """Return what to do when a task has failed, in plain text; "" for a task that no night has."""
    _, _, advice = TASK_DOCS.get(task, "").partition("**If it fails**: ")
    text = " ".join(advice.replace("`", "").split())
    return text[:1].upper() + text[1:]
