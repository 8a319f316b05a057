from nightly_server.native_log import set_level

set_level()
