"""The command lines that need Airflow's side, one module each."""
