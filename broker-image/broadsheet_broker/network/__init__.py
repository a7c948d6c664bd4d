"""Listeners and connections: frames in, requests to their handlers, answers out in order.

`Server` is all that the rest needs; `http` serves health and metrics on a port of its own.
"""

from broadsheet_broker.network.server import ListenError, Server

__all__ = ["ListenError", "Server"]
