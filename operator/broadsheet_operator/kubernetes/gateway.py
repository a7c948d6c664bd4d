"""Reading and writing objects: one small protocol, and its implementation on the dynamic client of `kubernetes.aio`.

Everything is plain dicts, in and out. The client library's typed models refuse fields they do not know and turn absent
ones into nulls, which server-side apply would take for values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from broadsheet_operator.kubernetes.kinds import Kind

FIELD_MANAGER = "broadsheet"
"""Of every field that the operator sets (Kubernetes' server-side apply)."""

MERGE_PATCH = "application/merge-patch+json"
Body = dict[str, Any]


class KubernetesError(Exception):
    """The API server refused or did not answer. `status` is the HTTP status, 0 when there was no answer.

    `fields`: the paths of what it refused, as `status.configs`; empty when it named none.
    """

    def __init__(self, status: int, reason: str, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(f"{reason} ({status}): {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.fields = tuple(fields)

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later: conflicts, overload and silence."""
        return self.status in (0, 409, 429) or self.status >= 500


class Kubernetes(Protocol):
    """What reconciling needs of the API server. Every method raises KubernetesError."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Body | None:
        """The object, or None if there is none."""
        ...

    async def list(self, kind: Kind, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Body]:
        """All objects of a kind, in one namespace or in all, that match a label and a field selector."""
        ...

    async def create(self, body: Mapping[str, Any]) -> Body:
        """Make an object; 409 if there is one of that name."""
        ...

    async def apply(self, body: Mapping[str, Any]) -> Body:
        """Server-side apply: our fields become what `body` says, others' fields stay."""
        ...

    async def apply_status(self, body: Mapping[str, Any]) -> Body:
        """Server-side apply of the status subresource; `body` needs apiVersion, kind, metadata and status."""
        ...

    async def patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Body:
        """RFC 7386 merge patch; with `metadata.resourceVersion` it fails with 409 if the object has changed since."""
        ...

    async def delete(self, kind: Kind, namespace: str | None, name: str, uid: str = "") -> bool:
        """Delete; with `uid` only that very object. False if it was gone already."""
        ...

    async def event(self, regarding: Mapping[str, Any], severity: str, reason: str, action: str, note: str) -> None:
        """Say something about an object (events.k8s.io/v1). `severity` is Normal or Warning."""
        ...


class ApiGateway:
    """The API server, through `kubernetes.aio`."""

    def __init__(self, api_client: Any, reporter: str) -> None:
        from kubernetes.aio.dynamic import DynamicClient

        make: Any = DynamicClient
        self._client = make(api_client)
        self._reporter = reporter

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Body | None:
        try:
            return await self._call("get", kind.path(namespace, name))
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Body]:
        items: list[Body] = []
        token: str | None = None
        while True:
            page = await self._call(
                "get",
                kind.path(namespace),
                label_selector=labels or None,
                field_selector=fields or None,
                limit=500,
                _continue=token,
            )
            for item in page["items"]:  # a list leaves these out of its items
                items.append({"apiVersion": kind.api_version, "kind": kind.kind, **item})
            token = page["metadata"].get("continue")
            if not token:
                return items

    async def create(self, body: Mapping[str, Any]) -> Body:
        return await self._call("post", Kind.of(dict(body)).path(body["metadata"].get("namespace")), dict(body))

    async def apply(self, body: Mapping[str, Any]) -> Body:
        return await self._apply(body, None)

    async def apply_status(self, body: Mapping[str, Any]) -> Body:
        return await self._apply(body, "status")

    async def _apply(self, body: Mapping[str, Any], subresource: str | None) -> Body:
        metadata = body["metadata"]
        path = Kind.of(dict(body)).path(metadata.get("namespace"), metadata["name"], subresource)
        options = {"content_type": "application/apply-patch+yaml", "field_manager": FIELD_MANAGER}
        return await self._call("patch", path, dict(body), force_conflicts=True, **options)

    async def patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Body:
        options = {"content_type": MERGE_PATCH, "field_manager": FIELD_MANAGER}
        return await self._call("patch", kind.path(namespace, name), dict(patch), **options)

    async def delete(self, kind: Kind, namespace: str | None, name: str, uid: str = "") -> bool:
        body: Body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("delete", kind.path(namespace, name), body)
        except KubernetesError as error:
            if error.status in (404, 409):  # gone, or another object with the name of the one that is gone
                return False
            raise
        return True

    async def event(self, regarding: Mapping[str, Any], severity: str, reason: str, action: str, note: str) -> None:
        metadata = regarding["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        unique = hashlib.sha256(f"{metadata.get('uid')}{reason}{note}{now}".encode()).hexdigest()[:16]
        namespace = metadata.get("namespace") or "default"
        body = {
            "apiVersion": Kind.EVENT.api_version,
            "kind": Kind.EVENT.kind,
            "metadata": {"name": f"{metadata['name']}.{unique}", "namespace": namespace},
            "eventTime": now,
            "reportingController": "broadsheet.io/operator",
            "reportingInstance": self._reporter[:128],
            "type": severity,
            "reason": reason[:128],
            "action": action[:128],
            "note": note[:1024],
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace"),
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
            },
        }
        await self._call("post", Kind.EVENT.path(namespace), body)

    async def _call(self, method: str, path: str, body: Body | None = None, **options: Any) -> Body:
        import aiohttp
        from kubernetes.aio.client.exceptions import ApiException

        try:
            answer = await self._client.request(
                method, path, body, serialize=False, _request_timeout=30, path_params={}, query_params=[], **options
            )
            result: Body = await answer.json()
            return result
        except ApiException as error:
            raise _refusal(error) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(0, "Unreachable", f"the API server does not answer: {error!r}") from None


def _refusal(error: Any) -> KubernetesError:
    """The API server's own words, out of the Status object that it answers with."""
    import json

    try:
        status = json.loads(error.body)
        causes = (status.get("details") or {}).get("causes") or ()
        fields = [str(cause["field"]) for cause in causes if cause.get("field")]
        reason = status.get("reason") or str(error.reason)
        return KubernetesError(error.status or 0, reason, status["message"], fields)
    except (TypeError, ValueError, KeyError):
        return KubernetesError(error.status or 0, str(error.reason), str(error.body or error.reason)[:500])
