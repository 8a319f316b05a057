"""The nightly retrain of the fares model, as an Airflow DAG."""

from nightly_airflow.retrain import retrain_dag

dag = retrain_dag("fares")
