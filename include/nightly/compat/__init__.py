"""Every use of private parts of TFX, TFT, TFMA, Beam and pyiceberg, one module a library. Only these may break in an upgrade.

Each has a test in tests/nightly/compat that names what the upgrade changed.
"""
