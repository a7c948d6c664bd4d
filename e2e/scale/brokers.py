"""Three brokers with many topics, groups and connections."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from e2e.bench import load, probes
from e2e.bench.failover import Failover
from e2e.bench.gauges import cpu_seconds, idle_cpu, resident_mb
from e2e.brokers import Brokers
from e2e.scale.groups import Line, Member, keep_alive
from tests.support.broadsheet import Broadsheet

STEPS = (1_000, 3_000, 10_000)
"""Topics of three partitions, with three replicas each."""
GROUPS = 2_000
CONNECTIONS = 10_000
PARTITIONS = REPLICAS = 3
BATCH = 500
"""Topics of one CreateTopics request."""
REST_SECONDS = 15.0
DEADLINE_S = 300.0
Row = dict[str, float]
Say = Callable[[str], None]


def run(less: int, say: Say) -> list[Row]:
    """A row for each number of topics; the last one has groups and connections, too."""
    steps = [step // less for step in STEPS]
    rows = []
    with Brokers(Broadsheet, size=3) as cluster:
        rows.append({"topics": 0, "rest_mb": _settled(cluster)})
        for topics in steps:
            rows.append(_step(cluster, topics, say))
        rows[-1] |= asyncio.run(_groups(cluster, GROUPS // less, say))
        rows[-1] |= asyncio.run(_connections(cluster, CONNECTIONS // less, say))
    return rows


def _settled(cluster: Brokers) -> float:
    time.sleep(5.0)
    return resident_mb(*cluster.pids)


def _step(cluster: Brokers, topics: int, say: Say) -> Row:
    row: Row = {"topics": topics}
    there = _count(cluster)
    names = [f"many-{number}" for number in range(there, topics)]
    began, cpu = time.perf_counter(), cpu_seconds(*cluster.pids)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    for start in range(0, len(names), BATCH):
        new = [NewTopic(name, PARTITIONS, REPLICAS) for name in names[start : start + BATCH]]
        for done in admin.create_topics(new, operation_timeout=60).values():
            done.result(120)
    everyone = [broker.bootstrap for broker in cluster.brokers.values()]
    for bootstrap in everyone:
        probes.first_success([bootstrap], probes.has_full_isr(names[-1], REPLICAS), DEADLINE_S)
    row["create_ms"] = (time.perf_counter() - began) / len(names) * 1000
    row["create_cpu_ms"] = (cpu_seconds(*cluster.pids) - cpu) / len(names) * 1000
    row["rest_mb"] = _settled(cluster)
    row["rest_cpu"] = idle_cpu(cluster.pids, REST_SECONDS)
    row["metadata_ms"] = load.metadata_ms(cluster.bootstrap, 10)
    row["change_ms"] = _propagation(cluster, admin, topics)
    row |= _failover(cluster, topics)
    say(f"{topics} topics: " + ", ".join(f"{key} {value:,.1f}" for key, value in row.items() if key != "topics"))
    return row


def _count(cluster: Brokers) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    return sum(name.startswith("many-") for name in admin.list_topics(timeout=60).topics)


def _propagation(cluster: Brokers, admin: AdminClient, topics: int) -> float:
    """ms from the order to make a topic until each broker knows its leader."""
    name = f"new-{topics}"
    began = time.perf_counter()
    admin.create_topics([NewTopic(name, 1, REPLICAS)], operation_timeout=60)[name].result(60)
    for broker in cluster.brokers.values():
        probes.first_success([broker.bootstrap], probes.has_leaders([name], without=probes.NOT_THERE), DEADLINE_S)
    return (time.perf_counter() - began) * 1000


def _failover(cluster: Brokers, topics: int) -> Row:
    """The active controller is killed: until the next change, and until every partition has a leader; its start."""
    failover = Failover(cluster, lambda words: None)
    victim = failover.controller()
    survivors = [cluster[node].bootstrap for node in cluster.others(victim)]
    names = [f"many-{number}" for number in range(topics)]
    began = failover.take_away(signal.SIGKILL, victim)
    changed = probes.first_success(survivors, probes.changes_metadata(names[0]), DEADLINE_S, 5.0)
    led = probes.first_success(survivors, probes.has_leaders(names, without=victim), DEADLINE_S, 60.0)
    broker = cluster[victim]
    started = time.perf_counter()
    broker.start()
    serving = time.perf_counter()
    probes.first_success(survivors, probes.have_full_isr(names, REPLICAS), DEADLINE_S, 60.0)
    return {
        "controller_s": changed - began,
        "leaders_s": led - began,
        "start_s": serving - started,
        "in_sync_s": time.perf_counter() - started,
    }


async def _groups(cluster: Brokers, count: int, say: Say) -> Row:
    """Groups of one member each that join, commit and then send heartbeats."""
    by_node = {id: await Line.to("127.0.0.1", broker.port) for id, broker in cluster.brokers.items()}
    lines = list(by_node.values())
    members = [Member(f"group-{number}") for number in range(count)]
    before = resident_mb(*cluster.pids)
    began, cpu = time.perf_counter(), cpu_seconds(*cluster.pids)
    gate = asyncio.Semaphore(50)

    async def join(member: Member) -> None:
        async with gate:
            await member.join(lines, by_node)

    await asyncio.gather(*(join(member) for member in members))
    took, used = time.perf_counter() - began, cpu_seconds(*cluster.pids) - cpu
    stop = asyncio.Event()
    beating = asyncio.ensure_future(keep_alive(members, stop))
    await asyncio.sleep(5.0)
    cpu, began = cpu_seconds(*cluster.pids), time.perf_counter()
    await asyncio.sleep(REST_SECONDS)
    share = (cpu_seconds(*cluster.pids) - cpu) / (time.perf_counter() - began) * 100
    row = {
        "groups": count,
        "groups_join_s": took,
        "groups_join_cpu_ms": used / count * 1000,
        "groups_mb": resident_mb(*cluster.pids) - before,
        "groups_rest_cpu": share,
    }
    stop.set()
    await beating
    for line in lines:
        line.close()
    say(", ".join(f"{key} {value:,.1f}" for key, value in row.items()))
    return row


async def _connections(cluster: Brokers, count: int, say: Say) -> Row:
    """Connections to one broker that have asked once and are idle then."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 1_000), most))
    broker = cluster[1]
    before, began, cpu = resident_mb(broker.pid), time.perf_counter(), cpu_seconds(broker.pid)
    lines: list[Line] = []
    for start in range(0, count, 200):
        new = [Line.to("127.0.0.1", broker.port) for _ in range(min(200, count - start))]
        opened = await asyncio.gather(*new)
        await asyncio.gather(*(line.ask(ApiVersionsRequest(), 0) for line in opened))
        lines += opened
    took, used = time.perf_counter() - began, cpu_seconds(broker.pid) - cpu
    await asyncio.sleep(5.0)
    row = {
        "connections": count,
        "connections_s": took,
        "connections_cpu_ms": used / count * 1000,
        "connections_mb": resident_mb(broker.pid) - before,
        "connections_rest_cpu": await asyncio.to_thread(idle_cpu, [broker.pid], REST_SECONDS),
    }
    for line in lines:
        line.close()
    say(", ".join(f"{key} {value:,.1f}" for key, value in row.items()))
    return row
