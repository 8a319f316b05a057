from nightly.native_log import set_level

set_level()
