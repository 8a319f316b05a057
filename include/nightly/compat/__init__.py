"""Every use of private parts of TFX, TFT, TFDV, TFMA, Beam and pyiceberg, a module each.

Only these may break in an upgrade. Each has a test in tests/nightly/compat that names what the upgrade changed.
"""
