"""The fault campaign: whole nights under faults, and what must hold whatever happens. docs/reliability.md says more."""
