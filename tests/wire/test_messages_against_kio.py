"""Every message in every version that kio has: what we write kio reads, and what kio writes we read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadsheet_broker.wire import api_messages
from broadsheet_broker.wire.schema import Message
from tests.wire.kio_peer import ours_to_plain, peer_classes, peer_decode, peer_encode, to_plain
from tests.wire.message_strategies import all_message_classes, structs, versions

CASES = [
    pytest.param(cls, version, peer, id=f"{cls.__name__}-{version}")
    for cls in all_message_classes()
    for version, peer in peer_classes().get(cls.__name__, {}).items()
]


@pytest.mark.parametrize(("cls", "version", "peer"), CASES)
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_kio_reads_what_we_write_and_we_read_what_kio_writes(
    cls: type[Message], version: int, peer: Any, data: st.DataObject
) -> None:
    message = data.draw(structs(cls, version, peer))
    ours = b"".join(message.encode(version))
    theirs, size = peer_decode(peer, ours)
    assert size == len(ours)
    plain = to_plain(theirs)
    assert ours_to_plain(message, plain) == plain
    written = peer_encode(peer, theirs)
    again, end = cls.decode(memoryview(written), version)
    assert end == len(written)
    assert again == message


def test_every_message_between_clients_and_brokers_is_compared() -> None:
    exchanged = {api_messages.request_class(key) for key in api_messages.APIS}
    exchanged |= {api_messages.response_class(key) for key in api_messages.APIS}
    compared = {(cls.__name__, version) for cls, version, _ in (case.values for case in CASES)}
    assert {(cls.__name__, version) for cls in exchanged for version in versions(cls)} <= compared
