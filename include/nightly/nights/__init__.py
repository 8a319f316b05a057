"""Planning a night and deciding its verdict from its records, for Airflow and for bin/night."""
