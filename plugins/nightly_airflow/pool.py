"""The pool of the ML steps: how many run at once, over all models. nightly_plugin.py creates it; users resize it."""

POOL, SLOTS = "ml", 2
