"""What became of a night, decided from its records: the same for Airflow and for the command."""
