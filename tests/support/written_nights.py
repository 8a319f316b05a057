"""Nights on disk, as the steps write them."""

import datetime as dt
from typing import Any

from nightly.io.paths import Paths
from nightly.records.canary import Comparison, Look, Side
from nightly.records.distributions import (
    Distance,
    Distributions,
    FeatureDistribution,
    Histogram,
    ValueShare,
)
from nightly.records.evaluation import Evaluation
from nightly.records.night import Contribution, GateResult, Night, Reason, SnapshotRef
from nightly.records.release import ReleaseRecord, Rollback
from nightly.records.snapshot import SnapshotManifest
from nightly.records.thresholds import ThresholdsUsed
from nightly.records.verdict import Outcome, Verdict
from nightly.release.comparisons import save_comparison

FIRST = dt.datetime(2016, 3, 1, 3, tzinfo=dt.UTC)
EVIL = '<script>alert("1")</script>'


def reason(**changes: Any) -> Reason:
    given = {"check": "min_rows", "subject": "", "figure": 5000.0, "threshold": 600.0, "held": False}
    return Reason(**{**given, "message": "the snapshot has 5,000 rows", **changes})


def drift(figure: float, held: bool = False, control: str = "last_accepted") -> Reason:
    return reason(
        check="drift",
        subject="payment_type",
        figure=figure,
        threshold=0.05,
        held=held,
        message=f"payment_type is {figure} away from {EVIL}",
        action="Compare the two distributions.",
        control=control,
        values=[Contribution(value=EVIL, rows=12, share=0.4, control=0.1)] if held else [],
        rows=["rows-00000-of-00001.parquet:7"] if held else [],
    )


def write_night(paths: Paths, day: int, outcome: Outcome, model: str = "taxi", **changes: Any) -> str:
    """One night with all its records; its run id."""
    as_of = FIRST + dt.timedelta(days=day)
    run_id = f"scheduled__{as_of.isoformat()}"
    held = outcome is Outcome.HELD_DATA
    night = Night(
        model=model,
        run_id=run_id,
        trigger="scheduled",
        requested_by="the schedule",
        as_of=as_of,
        window_start=as_of - dt.timedelta(days=90),
        release=True,
        train_steps=10,
        code_version="abc",
        run_url=f"http://airflow/dags/{model}_retrain/runs/{run_id}",
        planned_at=as_of,
    )
    folder = night.folder(paths)
    night.save(folder / "request.json")
    reasons = [reason(), drift(0.3 if held else 0.01 + day / 1000, held), drift(0.02, control="production")]
    reasons += [
        reason(
            check="skew",
            subject="fare",
            figure=0.2 if held else 0.05,
            threshold=0.1,
            held=held,
            control="serving",
            message="fare in the requests is far",
        )
    ]
    reasons += [reason(check="skew", figure=None, threshold=None, message="skew was not measured")]
    GateResult(gate="data", passed=not held, reasons=reasons, decided_at=as_of).save(folder / "data_gate.json")
    SnapshotRef(snapshot_id="ab" * 16, path="/gone", rows=5000, created=True).save(folder / "snapshot.json")
    distributions().save(folder / Distributions.FILE)
    distributions().model_copy(update={"control": "the training rows of the same days"}).save(
        folder / Distributions.SERVING_FILE
    )
    ThresholdsUsed(
        values={"data_gate.min_rows": 600, "drift.payment_type": 0.05 if day else 0.04, EVIL: EVIL},
        replaced=["data_gate.min_rows"],
        schema_version=0,
        schema_sha256="cd" * 32,
        code_version="abc",
    ).save(folder / ThresholdsUsed.FILE)
    if not held:
        Evaluation(
            examples={"": 900, f"state={EVIL}": 300},
            candidate={"": {"auc": 0.71}, f"state={EVIL}": {"auc": 0.6}},
            production={"": {"auc": 0.70}, f"state={EVIL}": {"auc": 0.65}},
            production_version=1456700000,
        ).save(folder / "evaluation.json")
    Verdict(
        **{
            "model": model,
            "run_id": run_id,
            "outcome": outcome,
            "summary": f"it was {outcome}",
            "reasons": reasons,
            "snapshot_id": "ab" * 16,
            "rows": 5000,
            "as_of": as_of,
            "decided_at": as_of + dt.timedelta(minutes=3),
            **changes,
        }
    ).save(folder / "verdict.json")
    return folder.name


def distributions() -> Distributions:
    return Distributions(
        examples_current=4000,
        examples_control=4100,
        control="the last accepted snapshot (2016-02-29)",
        features=[
            FeatureDistribution(
                name="payment_type",
                type="STRING",
                missing_current=0.0,
                missing_control=0.0,
                drift=Distance(value=0.3, threshold=0.05, norm="L-infinity"),
                distinct_current=3,
                distinct_control=2,
                values=[
                    ValueShare(value="Cash", current=0.9, control=0.6),
                    ValueShare(value=EVIL, current=0.1, control=0.0),
                ],
            ),
            FeatureDistribution(
                name="fare",
                type="FLOAT",
                missing_current=0.1,
                missing_control=None,
                histogram=Histogram(edges=[0, 5, 10, 90], current=[0.2, 0.6, 0.1], control=[0.3, 0.5, 0.2]),
            ),
            FeatureDistribution(name="gone", type="INT", missing_current=None, missing_control=0.0),
        ],
    )


def write_release(
    paths: Paths, version: int, state: str = "released", model: str = "taxi", **changes: Any
) -> ReleaseRecord:
    record = ReleaseRecord(
        **{
            "model": model,
            "version": version,
            "state": state,
            "run_id": f"scheduled__{FIRST.isoformat()}",
            "snapshot_id": "ab" * 16,
            "code_version": "abc",
            "requested_by": "the schedule",
            "metrics": {"auc": 0.71},
            "files": {"saved_model.pb": "00"},
            "path": "/serving",
            "previous_version": None,
            "released_at": dt.datetime.fromtimestamp(version, dt.UTC),
            **changes,
        }
    )
    record.save(paths.releases / model / f"{version}.json")
    return record


def write_canary(
    paths: Paths, version: int, state: str = "canary", looks: int = 5, model: str = "taxi", **changes: Any
) -> ReleaseRecord:
    """A canary of 10 % beside version - 100, its comparison with a look a day, and what `changes` says of its end."""
    since = dt.datetime.fromtimestamp(version, dt.UTC)
    share = {"previous_version": version - 100, "canary_share": 0.1, "canary_since": since}
    record = write_release(paths, version, state, model, **share)
    comparison = Comparison(
        **{
            "model": model,
            "version": version,
            "stable": version - 100,
            "share": 0.1,
            "since": since,
            "looks": [look(version, day) for day in range(looks)],
            **changes,
        }
    )
    save_comparison(paths, comparison)
    return record


def look(version: int, day: int) -> Look:
    """The first finds no label; after it the interval narrows."""
    stable, canary = 3000 * day, 330 * day
    figures = {}
    if day:
        figures = {"difference": 0.004 / day, "low": 0.004 / day - 0.03 / day, "high": 0.004 / day + 0.03 / day}
    return Look(
        at=dt.datetime.fromtimestamp(version, dt.UTC) + dt.timedelta(days=day),
        stable=Side(version=version - 100, logged=stable + 400, labelled=stable, callers=900, loss=0.18),
        canary=Side(version=version, logged=canary + 50, labelled=canary, callers=100, loss=0.184),
        **figures,
        alpha=0.05,
        margin=0.01,
        labels={"snapshots": stable + canary},
        left_out={"not asked by the label": 3},
        warnings=[f"clients are old {EVIL}"] if day == 3 else [],
        decision="wait",
        reason=f"it is not clear yet, on day {day}",
    )


def write_rollback(paths: Paths, version: int, model: str = "taxi", confirmed: bool = True) -> None:
    Rollback(
        model=model,
        version=version,
        reason=f"worse {EVIL}",
        requested_by="ann",
        from_version=version + 1,
        began_at=FIRST,
        done_at=FIRST if confirmed else None,
    ).save(paths.releases / model / "rollbacks" / f"{int(FIRST.timestamp())}.json")


def write_snapshot(paths: Paths, model: str = "taxi") -> None:
    SnapshotManifest(
        snapshot_id="ab" * 16,
        model=model,
        rows=5000,
        window_start=FIRST,
        window_end=FIRST,
        first_row=None,
        last_row=None,
        columns={EVIL: "string"},
        schema_fingerprint="f",
        label_counts={"1": 1000},
        files=[],
        source=["trips.csv"],
        source_sha256=["00"],
        code_version="abc",
        created_at=FIRST,
    ).save(paths.snapshots / model / ("ab" * 16) / "manifest.json")
