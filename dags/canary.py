"""The comparison of canaries with the versions in production, as an Airflow DAG."""

from nightly_airflow.canary import canary_dag

dag = canary_dag("0 12 * * *")  # after the nights of all time zones in use, with what labels the day has brought
