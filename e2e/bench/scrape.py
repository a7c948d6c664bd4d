"""What a scrape of a broker with thousands of partitions costs, and how long it holds up requests.

    .venv/bin/python -m e2e.bench.scrape --partitions 3000

Prints series and bytes of a scrape, the broker's CPU time for one, which share of a core that is with a scrape each
15 s, and how long the answers to small requests took while the broker was scraped and while it was not.

    .venv/bin/python -m e2e.bench.scrape --engine apache-kafka --partitions 1000

does the same with Apache Kafka and the JMX agent, and prints how much memory the agent takes: what is alive on the heap
of a broker that is scraped, beside that of one without the agent.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from e2e.apache.agent import WatchedKafka
from e2e.apache.apache import ApacheKafka
from e2e.bench.probes import Connection
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until

INTERVAL_SECONDS = 15
PARTITIONS_OF_A_TOPIC = 100
HEAP = "512M"
WARM_UP = 100
"""Scrapes until the JVM has compiled what they run: half an hour in production."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.scrape", description=__doc__)
    parser.add_argument("--partitions", type=int, default=3000)
    parser.add_argument("--scrapes", type=int, default=40)
    parser.add_argument("--engine", choices=("broadsheet", "apache-kafka"), default="broadsheet")
    options = parser.parse_args()
    apache = options.engine == "apache-kafka"
    alone = memory_without_agent(options.partitions) if apache else ""
    with watched_kafka() if apache else watched_broadsheet() as (broker, url):
        create(broker.bootstrap, options.partitions)
        wait_until(lambda: partitions(scrape(url)) >= options.partitions, "all partitions", 120)
        if apache:
            for _ in range(WARM_UP):
                scrape(url)
        text = scrape(url)
        series = sum(not line.startswith("#") for line in text.splitlines())
        print(f"{options.partitions} partitions, {series} series, {len(text)} bytes")
        seconds = cost(broker.pid, url, options.scrapes)
        print(
            f"CPU of a scrape: {seconds * 1000:.1f} ms, {seconds / INTERVAL_SECONDS:.2%} of a core with a scrape each "
            f"{INTERVAL_SECONDS} s"
        )
        for words, scraping in (("no scrape", False), ("one scrape after the other", True)):
            times = answer_times(broker.bootstrap, url, scraping=scraping)
            print(
                f"answers to ApiVersions with {words}: median {statistics.median(times) * 1000:.2f} ms, "
                f"p99 {statistics.quantiles(times, n=100)[98] * 1000:.2f} ms, at most {max(times) * 1000:.2f} ms"
            )
        if apache:
            print(f"alive on the heap: {memory(broker.pid)}; without the agent: {alone}")


@contextlib.contextmanager
def watched_broadsheet() -> Iterator[tuple[BrokerProcess, str]]:
    """Our broker, and where its metrics are."""
    listener = f"http://127.0.0.1:{free_port()}"
    with Broadsheet(overrides={"broadsheet.http.listener": listener}) as broker:
        yield broker, f"{listener}/metrics"


@contextlib.contextmanager
def watched_kafka() -> Iterator[tuple[BrokerProcess, str]]:
    """Apache Kafka with the agent."""
    with WatchedKafka(heap=HEAP) as broker:
        yield broker, f"http://{broker.metrics_address}/metrics"


def memory_without_agent(partitions: int) -> str:
    """What a broker of Apache Kafka with these partitions holds without the agent."""
    with ApacheKafka(heap=HEAP) as broker:
        create(broker.bootstrap, partitions)
        answer_times(broker.bootstrap, "", scraping=False)
        return memory(broker.pid)


def memory(pid: int) -> str:
    """What is alive on the heap. GC.run would only begin a collection; counting objects begins with a full one."""
    subprocess.run(["jcmd", str(pid), "GC.class_histogram"], check=True, capture_output=True)
    heap = subprocess.run(["jcmd", str(pid), "GC.heap_info"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"used (\d+)K", heap)
    assert found is not None, heap
    return f"{int(found[1]) / 1024:.0f} MB"


def create(bootstrap: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topics, rest = divmod(partitions, PARTITIONS_OF_A_TOPIC)
    sizes = [PARTITIONS_OF_A_TOPIC] * topics + [rest] * bool(rest)
    for number, size in enumerate(sizes):
        new = NewTopic(f"orders-of-region-{number}", size, 1)
        for future in admin.create_topics([new], operation_timeout=60).values():
            future.result(90)


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def partitions(text: str) -> int:
    return sum(line.startswith("kafka_log_log_size{") for line in text.splitlines())


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, as the scheduler counts it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cost(pid: int, url: str, scrapes: int) -> float:
    """CPU seconds of the broker for one scrape: the median, less what it does in the same time anyway."""
    scrape(url)
    found = []
    for _ in range(scrapes):
        before, began = cpu_seconds(pid), time.monotonic()
        scrape(url)
        busy, elapsed = cpu_seconds(pid) - before, time.monotonic() - began
        before = cpu_seconds(pid)
        time.sleep(elapsed)
        found.append(busy - (cpu_seconds(pid) - before))
    return statistics.median(found)


def answer_times(bootstrap: str, url: str, *, scraping: bool, requests: int = 3000) -> list[float]:
    """Seconds of each of some small requests, one after the other."""
    done = threading.Event()

    def keep_scraping() -> None:
        while not done.is_set():
            scrape(url)

    thread = threading.Thread(target=keep_scraping, daemon=True)
    if scraping:
        thread.start()
    times = []
    with Connection(bootstrap, 30.0) as connection:
        for _ in range(requests):
            began = time.monotonic()
            connection.ask(ApiVersionsRequest(), 0)
            times.append(time.monotonic() - began)
    done.set()
    return times


if __name__ == "__main__":
    main()
