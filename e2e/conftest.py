"""What every end-to-end test gets: one broker for the session, and topics of its own on it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from e2e.apache.apache import ApacheKafka
from e2e.operator.engines import ENGINES
from e2e.operator.fixtures import apache_kafka, engine, kube, news, world
from e2e.operator.providers import NamespacesKubernetes, choose
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess

# A shell that starts a job in the background has it ignore SIGINT, and programs started by it ignore it too: Ctrl-C in
# a test would reach nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)

BEGAN = time.monotonic()

__all__ = ["apache_kafka", "engine", "kube", "news", "world"]
"""Fixtures of a Kubernetes that all folders share."""

LEFT_OUT = pytest.StashKey[list[str]]()

BROKERS: dict[str, type[BrokerProcess]] = {"broadsheet": Broadsheet, "apache": ApacheKafka}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        choices=sorted(BROKERS),
        default="broadsheet",
        help="the broker under test; `apache` is the control: what fails there is a defect of the test",
    )
    parser.addoption(
        "--engine",
        choices=sorted(ENGINES),
        default="broadsheet",
        help="the engine of the Clusters that e2e/operator makes on Kubernetes",
    )
    parser.addoption("--soak-seconds", type=float, default=1800.0, help="how long e2e/soak watches a cluster at rest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the machines are not ours, what needs them is left out, and not skipped: a skip would be a failure."""
    marked = [item for item in items if item.get_closest_marker("machines")]
    if not marked or os.environ.get("BROADSHEET_E2E_ATTACH") or choose() is NamespacesKubernetes:
        return
    items[:] = [item for item in items if item not in marked]
    config.hook.pytest_deselected(items=marked)
    config.stash[LEFT_OUT] = [f"{item.name}: {item.get_closest_marker('machines').args[0]}" for item in marked]


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    """A running broker, the same one for the whole session."""
    with BROKERS[request.config.getoption("--broker")]() as broker:
        yield broker


@pytest.fixture(scope="session")
def admin(broker: BrokerProcess) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


@pytest.fixture(scope="session")
def new_topic(admin: AdminClient) -> Callable[..., str]:
    """Make a topic with a name of its own."""

    def create(partitions: int = 3, **config: str) -> str:
        name = f"orders-{uuid.uuid4().hex[:8]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        for done in admin.create_topics([NewTopic(name, partitions, 1, config=settings)]).values():
            done.result(30)
        return name

    return create


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """A topic with three partitions that no other test uses."""
    return new_topic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were really executed: a skipped one must not look like a passed one."""
    counts = {
        outcome: len(terminalreporter.getreports(outcome)) for outcome in ("passed", "failed", "error", "skipped")
    }
    executed = counts["passed"] + counts["failed"]
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    engine = config.getoption("--engine")
    against = config.getoption("--broker") if engine == "broadsheet" else f"Clusters with the engine {engine}"
    terminalreporter.write_line(f"end to end against {against}: {executed} tests executed ({told})")
    left_out = config.stash.get(LEFT_OUT, [])
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests need the machines of the provider namespaces:")
    for words in left_out:
        terminalreporter.write_line(f"  {words}")
    last = os.environ.get("BROADSHEET_LAST_STEP")
    if last:
        for line in table_of_steps(Path(os.environ["BROADSHEET_STEPS"]), last, time.monotonic() - BEGAN):
            terminalreporter.write_line(line)


def table_of_steps(file: Path, last: str, seconds: float) -> list[str]:
    """How long each step of a run took, and which have failed; the last one is still going on."""
    rows = [line.split("\t") for line in file.read_text().splitlines()] + [[f"{seconds:.0f}", "0", last]]
    lines = [f"{int(took):>6} s  {name}{'' if status == '0' else '  FAILED'}" for took, status, name in rows]
    return ["how long each step took:", *lines, f"{sum(int(row[0]) for row in rows):>6} s  in all"]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped end-to-end test is a failure: whoever runs them wants to know that they work."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter is not None and reporter.getreports("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
