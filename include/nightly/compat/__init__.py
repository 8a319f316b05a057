"""Every use of a private part of TFX, TFT, TFMA and Beam: one module a library. An upgrade may break these, no others.

Each has a test in tests/nightly/compat, which names what an upgrade has changed.
"""
