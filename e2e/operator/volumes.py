"""Volumes of the test cluster: a dynamic provisioner of host directories, with growth and both reclaim policies.

Serves the StorageClass provisioner `broadsheet.io/test-volumes`: a PersistentVolumeClaim whose pod has been scheduled
(annotation `volume.kubernetes.io/selected-node`) gets a PersistentVolume on that node; a larger request grows it; a
released volume with the policy Delete loses its directory. Started by `inside.py`; standard library only.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PROVISIONER = "broadsheet.io/test-volumes"
MERGE = "application/merge-patch+json"


class Api:
    """The few calls this needs of the API server."""

    def __init__(self, kubeconfig: pathlib.Path) -> None:
        config = json.loads(kubeconfig.read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(self.server + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", kind)
        data = None if body is None else json.dumps(body).encode()
        with self.opener.open(request, data, timeout=10) as answer:
            return json.load(answer)


def reconcile(api: Api, run: pathlib.Path) -> None:
    classes = {
        item["metadata"]["name"]: item
        for item in api.call("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]
        if item["provisioner"] == PROVISIONER
    }
    volumes = {item["metadata"]["name"]: item for item in api.call("GET", "/api/v1/persistentvolumes")["items"]}
    for claim in api.call("GET", "/api/v1/persistentvolumeclaims")["items"]:
        storage_class = classes.get(claim["spec"].get("storageClassName", ""))
        if storage_class is None:
            continue
        name = "pv-" + claim["metadata"]["uid"]
        node = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
        if name in volumes:
            grow(api, claim, volumes[name])
        elif node and "deletionTimestamp" not in claim["metadata"]:
            provision(api, run, name, claim, node, storage_class.get("reclaimPolicy", "Delete"))
    for name, volume in volumes.items():
        ours = volume["spec"].get("storageClassName") in classes
        policy = volume["spec"]["persistentVolumeReclaimPolicy"]
        # Kubernetes tries to delete it as well, and fails, since nobody of its own has made it.
        if ours and policy == "Delete" and volume.get("status", {}).get("phase") in ("Released", "Failed"):
            shutil.rmtree(volume["spec"]["local"]["path"], ignore_errors=True)
            api.call("DELETE", f"/api/v1/persistentvolumes/{name}")


def provision(api: Api, run: pathlib.Path, name: str, claim: dict[str, Any], node: str, policy: str) -> None:
    path = run / node / "volumes" / name
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    metadata = claim["metadata"]
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    spec = {
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "accessModes": claim["spec"]["accessModes"],
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": claim["spec"]["storageClassName"],
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
        },
        "local": {"path": str(path)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
    }  # fmt: skip
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    api.call("POST", "/api/v1/persistentvolumes", body)


def grow(api: Api, claim: dict[str, Any], volume: dict[str, Any]) -> None:
    """A directory has no size: growing it is a matter of saying so, on the volume and in the claim's status."""
    wanted = claim["spec"]["resources"]["requests"]["storage"]
    if claim.get("status", {}).get("phase") != "Bound" or claim["status"].get("capacity", {}).get("storage") == wanted:
        return
    capacity = {"capacity": {"storage": wanted}}
    metadata = claim["metadata"]
    api.call("PATCH", f"/api/v1/persistentvolumes/{volume['metadata']['name']}", {"spec": capacity}, MERGE)
    path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}/status"
    api.call("PATCH", path, {"status": capacity}, MERGE)


def main() -> None:
    run = pathlib.Path(sys.argv[1])
    api = Api(run / "kubeconfig")
    while True:
        try:
            reconcile(api, run)
        except urllib.error.HTTPError as error:
            print(f"{error.url}: {error.code} {error.read().decode()[:300]}", flush=True)  # a conflict: look again
        except OSError as error:
            print(error, flush=True)
        time.sleep(0.3)


if __name__ == "__main__":
    main()
