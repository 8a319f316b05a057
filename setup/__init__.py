"""The installation of the environments, by the standard library alone: python3 -m setup."""
