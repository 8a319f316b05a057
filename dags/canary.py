"""The Airflow DAG that compares canaries with the versions in production."""

from nightly_airflow.canary import canary_dag

dag = canary_dag("0 12 * * *")  # after the nights of all time zones in use
