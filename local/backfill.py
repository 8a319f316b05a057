"""Runs `airflow backfill create` for bin/airflow, with two checks of its arguments and a workaround for SQLite.

Airflow creates the runs of a paused DAG, and they wait silently until somebody unpauses it. It also accepts keys of
--dag-run-conf that are no params of the DAG, with which every night would fail. This module refuses both.

Airflow creates each run within a savepoint that begins with a read. If another process writes before the following
write, SQLite fails at once: "database is locked". A transaction that begins as a writer waits for the lock instead.
"""

import argparse
import json
import sqlite3
import sys
from typing import Any

from airflow.__main__ import main
from airflow.models.dag import DagModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from sqlalchemy import Connection, Engine, event

from nightly.io.hints import did_you_mean

WAIT_SECONDS = 60  # for the other processes' transactions, which are short


def take_turns(engines: type[Engine] | Engine) -> None:
    """Make each SQLite transaction wait for the write lock before it begins."""
    event.listen(engines, "connect", _leave_transactions_to_sqlalchemy)
    event.listen(engines, "begin", _begin_as_a_writer)


def _leave_transactions_to_sqlalchemy(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")


def _begin_as_a_writer(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def refusal(arguments: list[str]) -> str:
    """Return why `airflow ARGUMENTS` must not run, or "". Airflow reports its own errors itself."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--dag-id", default="")
    parser.add_argument("--dag-run-conf", default="{}")
    parser.add_argument("--dry-run", action="store_true")
    try:
        args = parser.parse_known_args(arguments)[0]
        conf = json.loads(args.dag_run_conf)
    except (argparse.ArgumentError, ValueError):
        return ""
    with create_session() as session:
        dag, stored = session.get(DagModel, args.dag_id), SerializedDagModel.get(args.dag_id, session=session)
        if dag is None or stored is None or not isinstance(conf, dict):
            return ""
        names = list(stored.dag.params)
        if unknown := [key for key in conf if key not in names]:
            return f"--dag-run-conf: there is no such key as {unknown[0]!r}{did_you_mean(unknown[0], names)}"
        if not dag.is_paused or args.dry_run:
            return ""
    return (
        f"{args.dag_id} is paused, and the nights of its backfill would wait until it is unpaused. Either unpause it "
        f"first, by `bin/airflow dags unpause {args.dag_id}`: this also starts its schedule, and the night of the last "
        "interval runs at once and may release. Or run only backfills and triggers: stop Airflow, start "
        "it with AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE=False in its environment, and unpause the DAG there."
    )


if __name__ == "__main__":
    if reason := refusal(sys.argv[1:]):
        sys.exit(f"bin/airflow: {reason}")
    take_turns(Engine)
    sys.exit(main())
