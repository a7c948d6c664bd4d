"""A real broker process for real Python clients."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broadsheet import Broadsheet

with warnings.catch_warnings():  # kafka-python reads its schemas in a way that Python 3.11 calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """host:port of a broker that runs as long as these tests."""
    with Broadsheet() as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def new_topic(bootstrap: str) -> Callable[..., str]:
    """Make a topic with a name of its own."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def create(partitions: int = 3, **config: str) -> str:
        name = f"orders-{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)
        return name

    return create


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic()


@pytest.fixture
def group() -> str:
    return f"readers-{uuid.uuid4().hex[:8]}"
