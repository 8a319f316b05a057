"""Every use of private parts of TFX, TFT, TFDV, TFMA, Beam and pyiceberg, and ML Metadata's limits; a module each.

Only these may break in an upgrade. Each has a test in tests/nightly/compat that names what the upgrade changed.
"""
