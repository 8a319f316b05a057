import contextlib

with contextlib.suppress(ModuleNotFoundError):  # installed without the server, as on a serving machine: no TensorFlow
    from nightly_server.native_log import set_level

    set_level()
