"""Where the canary's HTTP endpoint listens."""

from __future__ import annotations

import errno
import socket
import urllib.request
from typing import Any

import pytest

from broadsheet_operator.canary.endpoint import TEXT, Address, Endpoint
from broadsheet_operator.canary.main import parser
from tests.support.ports import free_port


def answers(text: str, *hosts: str) -> list[bool]:
    """Whether a page can be had at each of these hosts, of an endpoint that listens on an address."""
    endpoint = Endpoint(Address.parse(text), {"/healthz": lambda: (200, TEXT, b"ok\n")})
    try:
        return [_answers(f"http://{host}:{endpoint.port}/healthz") for host in hosts]
    finally:
        endpoint.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.read() == b"ok\n")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[::]:0", [True, True]),
        ("[::1]:0", [False, True]),
        ("0.0.0.0:0", [True, False]),
        ("localhost:0", [True, False]),
        (":0", [True, False]),
    ],
)
def test_it_listens_where_it_should(text: str, expected: list[bool]) -> None:
    assert answers(text, "127.0.0.1", "[::1]") == expected


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIpv6(socket.socket):
        def __init__(self, family: int = -1, *more: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *more, **named)

    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    assert answers("[::]:0", "127.0.0.1") == [True]


@pytest.mark.parametrize("host", ["[::]", "localhost"])
def test_a_port_in_use_is_an_error(host: str) -> None:
    port = free_port()
    with (
        socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),
        pytest.raises(OSError, match="in use"),
    ):
        answers(f"{host}:{port}", "127.0.0.1")


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("[::1]:9404", "localhost:0", "10.0.0.1:80"):
        assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["::1:9404", "localhost", "[::1]", "localhost:70000", "localhost:x", "[localhost]:1"])
def test_what_is_not_an_address_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--bootstrap-servers", "b:9092", "--http", text])
    assert f"'{text}': write HOST:PORT" in capsys.readouterr().err
