"""Figures of the operator, measured beside the API server: `measure.py latency|bulk|groups|delete NAMESPACE COUNT`.

Prints one line of JSON. Times are of this process: from the answer to `create` to the watch event that says Ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import ssl
import sys
import time
from typing import Any

import aiohttp

CLUSTER = "news"
GROUP = "/apis/broadsheet.io/v1alpha1"


class Api:
    """The few calls that measuring needs."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server
        self.ready: dict[str, float] = {}
        """When the watch first saw each object Ready."""

    def path(self, namespace: str, plural: str) -> str:
        return f"{self.server}{GROUP}/namespaces/{namespace}/{plural}"

    async def create(self, namespace: str, plural: str, kind: str, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": "broadsheet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        async with self.session.post(self.path(namespace, plural), json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def delete(self, namespace: str, plural: str, name: str) -> None:
        async with self.session.delete(f"{self.path(namespace, plural)}/{name}") as answer:
            assert answer.status in (200, 404), await answer.text()

    async def watch(self, namespace: str, plural: str, started: asyncio.Event) -> None:
        """Note what becomes Ready. The API server ends a watch whose reader is slow; then it begins anew."""
        while True:
            async with self.session.get(self.path(namespace, plural)) as answer:
                listed = await answer.json()
            for body in listed["items"]:
                self.note(body)
            query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
            async with self.session.get(self.path(namespace, plural), params=query) as answer:
                started.set()
                async for line in answer.content:
                    self.note(json.loads(line)["object"])

    def note(self, body: dict[str, Any]) -> None:
        conditions = body.get("status", {}).get("conditions", ())
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            self.ready.setdefault(body["metadata"]["name"], time.perf_counter())


async def until(check: Any, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while not check():
        assert time.perf_counter() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.002)


async def latency(api: Api, namespace: str, count: int) -> dict[str, Any]:
    """Topics one after the other."""
    took = []
    for number in range(count):
        name = f"single-{number}"
        begun = time.perf_counter()
        await api.create(namespace, "topics", "Topic", name, {"cluster": CLUSTER, "partitions": 1})
        await until(lambda name=name: name in api.ready, 30)
        took.append(api.ready[name] - begun)
    took.sort()
    return {
        "median_s": took[len(took) // 2],
        "p99_s": took[min(len(took) - 1, int(len(took) * 0.99))],
        "max_s": took[-1],
    }


async def bulk(api: Api, namespace: str, count: int) -> dict[str, Any]:
    """Topics all at once, as `kubectl apply -f` of a folder or a GitOps tool does it."""
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        async with gate:
            spec = {"cluster": CLUSTER, "partitions": 1}
            await api.create(namespace, "topics", "Topic", f"bulk-{number}", spec)

    begun = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    created = time.perf_counter()
    mine = {f"bulk-{number}" for number in range(count)}
    await until(lambda: mine <= api.ready.keys(), 300)
    took = max(api.ready[name] for name in mine) - begun
    return {"seconds": took, "per_second": count / took, "creating_s": created - begun}


async def groups(api: Api, namespace: str, count: int) -> dict[str, Any]:
    """ConsumerGroups of groups that do not exist."""
    for number in range(count):
        await api.create(namespace, "consumergroups", "ConsumerGroup", f"group-{number}", {"cluster": CLUSTER})
    return {"groups": count}


async def main() -> None:
    command, namespace, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    config = json.loads(pathlib.Path(os.environ["KUBECONFIG"]).read_text())  # noqa: ASYNC240 - before anything runs
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    connector = aiohttp.TCPConnector(ssl=context)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        api = Api(session, config["clusters"][0]["cluster"]["server"])
        started = asyncio.Event()
        watching = asyncio.create_task(api.watch(namespace, "topics", started))
        await started.wait()
        result = await {"latency": latency, "bulk": bulk, "groups": groups}[command](api, namespace, count)
        watching.cancel()
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
