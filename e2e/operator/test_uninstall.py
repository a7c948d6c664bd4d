"""The last test file: what is left when everything is taken away again."""

from __future__ import annotations

from e2e.operator.world import HOME, OPERATOR_NAMESPACE, World, resource, unique
from tests.support.waiting import wait_until


def names(world: World, kinds: str, *options: str) -> list[str]:
    listed = world.kube.kubectl("get", kinds, *options, "-o", "name").stdout.split()
    return [name for name in listed if "broadsheet" in name]


def test_uninstall_leaves_what_the_policy_keeps(news: World) -> None:
    kept, gone = unique("kept"), unique("gone")
    news.apply(resource("Topic", kept, {"cluster": "news", "partitions": 1}))
    news.apply(resource("Topic", gone, {"cluster": "news", "partitions": 1, "deletionPolicy": "Delete"}))
    news.wait("topic", kept)
    news.wait("topic", gone)
    news.kube.kubectl("delete", "topics,consumergroups", "--all", "-A", "--timeout=100s")
    topics = news.client("topics")
    assert kept in topics
    assert gone not in topics

    done = news.kube.run(["helm", "uninstall", "broadsheet", "--namespace", OPERATOR_NAMESPACE, "--wait"])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not news.kube.get("pods", "-n", OPERATOR_NAMESPACE)["items"], "the operator's pods to be gone")
    left = names(news, "all,sa,secrets,configmaps,leases,roles,rolebindings,pdb,netpol", "-n", OPERATOR_NAMESPACE)
    left += names(news, "clusterroles,clusterrolebindings")
    assert left == []
    assert len(names(news, "crds")) == 3, "the definitions stay, or every Cluster would go with them"
    assert news.client("produce", kept, "1"), "brokers run on without an operator"

    news.delete("cluster", "news", "--timeout=60s")
    wait_until(lambda: news.get("pod", "news-brokers-0") is None, "the broker to be gone", 90)
    children = ("all,cm,sa,pdb,netpol", "-n", HOME, "-l", "broadsheet.io/cluster=news")
    wait_until(lambda: not news.kube.get(*children)["items"], "the children to be gone")
    claims = news.kube.get("pvc", "-n", HOME)["items"]
    assert [c["metadata"]["name"] for c in claims] == ["data-news-brokers-0"], "the volume stays (Retain)"
    news.kube.kubectl("delete", "crd", *(name.partition("/")[2] for name in names(news, "crds")), "--timeout=60s")
