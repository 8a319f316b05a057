"""The warm host, without TensorFlow: a request that is not one."""

import multiprocessing
import socket
from types import SimpleNamespace

from nightly.runtime.host import Handler


def test_a_client_that_dies_within_its_request_ends_its_supervisor(tmp_path):
    ours, client = socket.socketpair()
    with (tmp_path / "output").open("wb") as output:
        socket.send_fds(client, [b'{"step": "trai'], [output.fileno()])
    client.close()
    host = SimpleNamespace(close_inherited=lambda: None)
    supervisor = multiprocessing.get_context("fork").Process(target=Handler, args=(ours, "", host))
    supervisor.start()
    try:
        supervisor.join(10)
        assert supervisor.exitcode == 0
    finally:
        supervisor.kill()
