"""`airflow backfill create` as bin/airflow runs it: refused where it would wait unseen; and on SQLite, in turns.

Airflow creates the runs of a paused DAG, and they wait, without a word, until somebody unpauses it. It takes a key of
--dag-run-conf that the DAG's form does not have, by which every night would fail. Both are refused here.

Airflow makes each run within a savepoint that begins by reading. SQLite refuses the write that follows, at once, when
another process has written in between: "database is locked". A transaction that is a writer's from its beginning waits
for its turn.
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
    """Let each transaction over SQLite wait until it may write, and then begin."""
    event.listen(engines, "connect", _leave_transactions_to_sqlalchemy)
    event.listen(engines, "begin", _begin_as_a_writer)


def _leave_transactions_to_sqlalchemy(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")


def _begin_as_a_writer(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def refusal(words: list[str]) -> str:
    """Return why `airflow WORDS` would not do what it is asked, or ""; what Airflow refuses by itself is left to it."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--dag-id", default="")
    parser.add_argument("--dag-run-conf", default="{}")
    parser.add_argument("--dry-run", action="store_true")
    try:
        asked = parser.parse_known_args(words)[0]
        conf = json.loads(asked.dag_run_conf)
    except (argparse.ArgumentError, ValueError):
        return ""
    with create_session() as session:
        dag, stored = session.get(DagModel, asked.dag_id), SerializedDagModel.get(asked.dag_id, session=session)
        if dag is None or stored is None or not isinstance(conf, dict):
            return ""
        names = list(stored.dag.params)
        if unknown := [key for key in conf if key not in names]:
            return f"--dag-run-conf: there is no such key as {unknown[0]!r}{did_you_mean(unknown[0], names)}"
        if not dag.is_paused or asked.dry_run:
            return ""
    return (
        f"{asked.dag_id} is paused, and the nights of a backfill wait as long as their DAG is. Either unpause it "
        f"first, by `bin/airflow dags unpause {asked.dag_id}`: its schedule begins too, with the night of the last "
        "interval at once, which may release. Or run no night but those of backfills and triggers: stop Airflow, start "
        "it with AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE=False in its environment, and unpause the DAG there."
    )


if __name__ == "__main__":
    if why := refusal(sys.argv[1:]):
        sys.exit(f"bin/airflow: {why}")
    take_turns(Engine)
    sys.exit(main())
