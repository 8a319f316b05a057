"""The REST port's connections, limited in number and idle time."""

import asyncio
import contextlib
import logging
import socket

from aiohttp import web

from nightly_server import limits

RETRY_SECONDS = 1.0  # after the operating system had no resources for a connection

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

log = logging.getLogger(__name__)


class Connections:
    """Accepts connections for `server` from the listening socket `listener`.

    asyncio's own server has no limit, and logs each failed `accept` a hundred times.

    :param seconds: the time in which a new connection must send its first request's header
    """

    def __init__(self, server: web.Server, listener: socket.socket, max_connections: int, seconds: float) -> None:
        self._server = server
        self._listener = listener
        self._max_connections = max_connections
        self._seconds = seconds
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    async def accept(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        full = False
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptors or memory left
                log.error("cannot accept a connection, trying again in %g s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if len(self._server.connections) >= self._max_connections:
                if not full:
                    log.error("%s connections: others are answered with 503", self._max_connections)
                full = True
                with accepted, contextlib.suppress(OSError):
                    accepted.send(_FULL)
                continue
            full = False
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # closes a peer that never reads its responses, too
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.DEAD_PEER_SECONDS * 1000)
            protocol = self._server()
            self._silent[protocol] = loop.call_later(self._seconds, self._close_silent, protocol)
            try:
                await loop.connect_accepted_socket(lambda protocol=protocol: protocol, accepted)
            except OSError:
                accepted.close()

    def request_arrived(self, protocol: web.RequestHandler) -> None:
        """Stop the timer of the connection: a request has arrived."""
        if timer := self._silent.pop(protocol, None):
            timer.cancel()

    def _close_silent(self, protocol: web.RequestHandler) -> None:
        del self._silent[protocol]
        protocol.force_close()
