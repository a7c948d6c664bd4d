"""Gateway to the API server: plain dicts, server-side apply with one field manager, status, events, a lease."""

from broadsheet_operator.kubernetes.gateway import ApiGateway, Kubernetes, KubernetesError
from broadsheet_operator.kubernetes.kinds import Kind, kind_of

__all__ = ["ApiGateway", "Kind", "Kubernetes", "KubernetesError", "kind_of"]
