"""What GitOps tools live from: at rest nothing differs from what was applied, and applying it again writes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.apiserver.full_specs import FULL
from e2e.apiserver.operators import Kubelet, OperatorThread
from e2e.apiserver.server import REPOSITORY, Api, ApiServer, programs
from tests.support.waiting import wait_until

API = "broadsheet.io/v1alpha1"
EXAMPLES = REPOSITORY / "docs/examples"
ENVIRONMENTS = ("dev", "staging", "prod")


def full(api: Api) -> list[dict[str, Any]]:
    """An object for each of the full specs; the first Cluster is `news`."""
    objects = []
    for kind, specs in FULL.items():
        for number, spec in enumerate(specs):
            name = "news" if (kind, number) == ("Cluster", 0) else f"{kind.lower()}-{number}"
            metadata = {"name": name, "namespace": api.namespace}
            objects.append({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
    return objects


def overlay(api: Api, name: str) -> list[dict[str, Any]]:
    """What kustomize makes of an environment of the examples, in the test's namespace."""
    built = api.kubectl("kustomize", str(EXAMPLES / f"gitops/environments/{name}"))
    assert f"namespace: kafka-{name}" in built
    return list(yaml.safe_load_all(built.replace(f"namespace: kafka-{name}", f"namespace: {api.namespace}")))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def paths(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    """The fields of a schema that hold something, by path."""
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from paths(child, f"{before}.{name}")
    elif "items" in schema:
        yield from paths(schema["items"], f"{before}[]")
    else:
        yield before


def used(value: Any, known: set[str], before: str = "") -> Iterator[str]:
    if before in known:
        yield before
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from used(entry, known, f"{before}.{name}")
    elif isinstance(value, list):
        for entry in value:
            yield from used(entry, known, f"{before}[]")


@pytest.mark.parametrize("kind", FULL)
def test_the_full_specs_have_every_field(kind: str) -> None:
    """A new field is tried here, or this fails with its name."""
    name = {"Cluster": "clusters", "Topic": "topics", "ConsumerGroup": "consumergroups"}[kind]
    crd = yaml.safe_load((REPOSITORY / f"crds/{name}.yaml").read_text())
    known = set(paths(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]))
    refused = {".engine.home"}  # with `broadsheet up` only
    assert known - refused - {path for spec in FULL[kind] for path in used(spec, known)} == set()


@pytest.mark.parametrize("mode", ["client-side", "server-side"])
@pytest.mark.parametrize("what", ["full", "kubernetes.yaml", "prod"])
def test_at_rest_nothing_differs_and_a_second_apply_writes_nothing(api: Api, what: str, mode: str) -> None:
    objects = (
        full(api) if what == "full" else overlay(api, what) if what in ENVIRONMENTS else documents(EXAMPLES / what)
    )
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    flags = ["--server-side", "--field-manager=gitops"] if mode == "server-side" else []
    with OperatorThread(api.namespace) as operator:
        cluster = next(body for body in objects if body["kind"] == "Cluster")
        replicas = cluster["spec"]["brokers"]["replicas"]
        operator.kafka.pods = lambda: list(range(replicas))
        operator.kafka.voters = list(range(replicas))
        api.kubectl("apply", *flags, "-f", "-", stdin=text)
        Kubelet(api).run("news")
        wait_until(lambda: all(observed(api, body) for body in objects), "every status", 60, 0.1)
        api.ready("Cluster", "news", 60)
        before = {key(body): stored(api, body) for body in objects}
        api.kubectl("diff", *flags, "-f", "-", stdin=text)  # 1: there are differences
        told = api.kubectl("apply", *flags, "-f", "-", stdin=text).splitlines()
        if mode == "client-side":
            assert all(line.endswith(" unchanged") for line in told), told
        after = {key(body): stored(api, body) for body in objects}
    for body in objects:
        assert missing(body["spec"], after[key(body)]["spec"]) == [], key(body)
        assert specs_only(after[key(body)]) == specs_only(before[key(body)]), key(body)


def key(body: dict[str, Any]) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]


def stored(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    return api.one(*key(body))


def specs_only(body: dict[str, Any]) -> dict[str, Any]:
    """What an apply could change; the operator may write a status, a finalizer or its annotation meanwhile."""
    metadata = {name: body["metadata"].get(name) for name in ("generation", "labels")}
    return {"metadata": metadata, "spec": body["spec"]}


def observed(api: Api, body: dict[str, Any]) -> bool:
    found = stored(api, body)
    return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])


def missing(wanted: Any, found: Any, path: str = "spec") -> list[str]:
    """Where Argo CD would see a difference. It compares custom resources by a JSON merge patch: a list as a whole."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [line for name in wanted for line in missing(wanted[name], found.get(name), f"{path}.{name}")]
    return [] if wanted == found else [f"{path}: {wanted!r} is {found!r}"]


def test_a_status_write_leaves_nothing_to_sync(api: Api) -> None:
    """resourceVersion and generation of an object at rest stay, however often it is looked at."""
    with OperatorThread(api.namespace) as operator:
        api.resource("Cluster", "news", {"external": {"bootstrapServers": ["a:1"]}})
        api.resource("Topic", "orders", {"cluster": "news", "partitions": 1})
        api.resource("ConsumerGroup", "billing", {"cluster": "news"})
        for kind, name in (("Cluster", "news"), ("Topic", "orders"), ("ConsumerGroup", "billing")):
            api.ready(kind, name)
        assert operator.process is not None and operator.process.operator is not None
        looks, writer = len(operator.kafka.calls), operator.process.operator.writer
        written = writer.statuses_written
        wait_until(lambda: len(operator.kafka.calls) > looks + 20, "twenty more looks", 60)
        assert writer.statuses_written == written


# -- the examples' other kinds -----------------------------------------------------------------------------------------


def module(name: str, version: str) -> Path:
    """The folder of a Go module, from the proxy or the cache of modules."""
    done = subprocess.run(["go", "mod", "download", "-json", f"{name}@{version}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return Path(json.loads(done.stdout)["Dir"])


@pytest.fixture(scope="module")
def gitops_kinds(server: ApiServer) -> None:
    """The definitions of Argo CD's and Flux's kinds."""
    api = Api(server)
    flux = "github.com/fluxcd"
    folders = [
        module("github.com/argoproj/argo-cd/v3", "v3.2.0") / "manifests/crds",
        module(f"{flux}/kustomize-controller", "v1.9.6") / "config/crd/bases",
        module(f"{flux}/source-controller", "v1.9.6") / "config/crd/bases",
    ]
    for folder in folders:
        files = [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
        api.kubectl("apply", "--server-side", *(part for path in files for part in ("-f", str(path))))
    served = ("argoproj.io/v1alpha1/applications", "argoproj.io/v1alpha1/applicationsets")
    served += ("kustomize.toolkit.fluxcd.io/v1/kustomizations", "source.toolkit.fluxcd.io/v1/gitrepositories")
    for path in served:
        wait_until(lambda path=path: api.answers(f"/apis/{path}"), f"{path} to be served", 60)


def test_argo_cd_and_flux_would_take_the_examples(api: Api, gitops_kinds: None) -> None:
    """Each object of their kinds against their own definitions, strictly. helm-controller's are not to be had."""
    tried = set()
    for path in sorted((EXAMPLES / "gitops").rglob("*.yaml")):
        for body in documents(path):
            if "argoproj.io" in body.get("apiVersion", "") or "toolkit.fluxcd.io" in body.get("apiVersion", ""):
                if body["kind"] == "HelmRelease":
                    continue
                body["metadata"]["namespace"] = api.namespace
                flags = ["--dry-run=server", "--validate=strict", "-f", "-"]
                api.kubectl("create", *flags, stdin=yaml.safe_dump(body))
                tried.add(body["kind"])
    assert tried == {"Application", "ApplicationSet", "GitRepository", "Kustomization"}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_api_server_takes_every_environment(api: Api, name: str) -> None:
    text = yaml.safe_dump_all(overlay(api, name))
    told = api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text).splitlines()
    assert len(told) == 5, told


def test_the_rendered_chart_is_a_kustomization_for_flux(api: Api, tmp_path: Path) -> None:
    for path in (EXAMPLES / "gitops/operator").iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    chart = str(REPOSITORY / "charts/broadsheet")
    command = [str(programs() / "helm"), "template", "broadsheet", chart, "--namespace", "broadsheet"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    (tmp_path / "operator.yaml").write_text(rendered)
    built = [body for body in yaml.safe_load_all(api.kubectl("kustomize", str(tmp_path))) if body]
    kinds = [body["kind"] for body in built]
    assert kinds.count("CustomResourceDefinition") == 3 and "Namespace" in kinds
    for body in built:
        if body["kind"] == "CustomResourceDefinition":
            kept = body["metadata"]["annotations"]
            assert kept["helm.sh/resource-policy"] == "keep"
            assert kept["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
            assert kept["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


# -- argocd-cm ---------------------------------------------------------------------------------------------------------

OF_ARGO = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "https://a"}}


def test_our_keys_are_merged_into_argo_cds_own_config_map(api: Api) -> None:
    """By the two ways that docs/how-to/gitops.md shows: the file, and the chart."""
    api.create({**OF_ARGO, "metadata": {"name": "argocd-cm", "namespace": api.namespace}})
    file = yaml.safe_load((EXAMPLES / "gitops/argocd/argocd-cm.yaml").read_text())
    chart = str(REPOSITORY / "charts/broadsheet")
    options = ["--set", "argocd.enabled=true", "--set", f"argocd.namespace={api.namespace}"]
    command = [str(programs() / "helm"), "template", "broadsheet", chart, *options]
    command += ["--show-only", "templates/argocd-cm.yaml"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    by_file = yaml.safe_dump({**file, "metadata": {**file["metadata"], "namespace": api.namespace}})
    for text in (by_file, rendered):
        api.kubectl("apply", "--server-side", "--field-manager", "broadsheet", "-f", "-", stdin=text)
        found = api.one("ConfigMap", "argocd-cm")["data"]
        assert found.pop("url") == "https://a" and found == file["data"]


def test_a_release_does_not_take_argo_cds_config_map(api: Api) -> None:
    api.create({**OF_ARGO, "metadata": {"name": "argocd-cm", "namespace": api.namespace}})
    command = [str(programs() / "helm"), "install", "mine", str(REPOSITORY / "charts/broadsheet"), "-n", api.namespace]
    options = ["--set", "crds.install=false", "--set", "argocd.enabled=true"]
    options += ["--set", f"argocd.namespace={api.namespace}", "--kubeconfig", str(api.server.kubeconfig)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "belongs to Argo CD: leave argocd.enabled out of this release" in done.stderr
    assert api.one("ConfigMap", "argocd-cm")["data"] == {"url": "https://a"}
