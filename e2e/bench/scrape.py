"""What a scrape of a broker with thousands of partitions costs, and how long it holds up requests.

    .venv/bin/python -m e2e.bench.scrape --partitions 3000

Prints series and bytes of a scrape, the broker's CPU time for one, which share of a core that is with a scrape each
15 s, and how long the answers to small requests took while the broker was scraped and while it was not.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
import urllib.request
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from e2e.bench.probes import Connection
from tests.support.broadsheet import Broadsheet
from tests.support.ports import free_port
from tests.support.waiting import wait_until

INTERVAL_SECONDS = 15
PARTITIONS_OF_A_TOPIC = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.scrape", description=__doc__)
    parser.add_argument("--partitions", type=int, default=3000)
    parser.add_argument("--scrapes", type=int, default=40)
    options = parser.parse_args()
    port = free_port()
    with Broadsheet(overrides={"broadsheet.http.listener": f"http://127.0.0.1:{port}"}) as broker:
        create(broker.bootstrap, options.partitions)
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: partitions(scrape(url)) == options.partitions, "all partitions")
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
