"""What expressions may use: the metrics of the catalogue with their labels, and those that others export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

import promql_parser as promql

from tools.metrics import catalogue

SCRAPE = {
    "broker": {"namespace", "pod", "cluster", "job"},
    "apache-kafka": {"namespace", "pod", "cluster", "job"},
    "operator": {"namespace", "pod", "job"},
    "canary": {"namespace", "pod", "cluster", "job"},
}
"""Labels that the PodMonitors of the chart give to all samples of a process."""
OUTSIDE: Mapping[str, Set[str]] = {
    "up": {"namespace", "pod", "cluster", "job"},
    "ALERTS": {"alertname", "alertstate", "severity", "namespace", "pod", "cluster", "topic", "consumergroup"}
    | {"broker", "kind", "name"},
    "ALERTS_FOR_STATE": {"alertname", "severity", "namespace", "pod", "cluster", "topic", "consumergroup"}
    | {"broker", "kind", "name"},
    "kubelet_volume_stats_available_bytes": {"namespace", "persistentvolumeclaim"},
}
"""What Prometheus and Kubernetes export themselves."""
ANY = "*"
"""Among the labels of what is not known: one complaint is enough."""


def known() -> dict[str, set[str]]:
    """Every name that may stand in an expression, with its labels."""
    found: dict[str, set[str]] = {name: set(labels) for name, labels in OUTSIDE.items()}
    for who, metrics in catalogue().items():
        for metric in metrics:
            labels = {*metric.labels, *SCRAPE[who]}
            names = [metric.name]
            if metric.type in ("histogram", "summary"):
                names = [f"{metric.name}_{part}" for part in ("sum", "count")]
            if metric.type == "histogram":
                found.setdefault(f"{metric.name}_bucket", set()).update(labels, {"le"})
            for name in names:
                found.setdefault(name, set()).update(labels)
    return found


def problems(expr: str, metrics: Mapping[str, Set[str]]) -> list[str]:
    """Why Prometheus would answer an expression with nothing: names and labels that nobody exports."""
    found: list[str] = []
    _labels(promql.parse(expr), metrics, found)
    return found


def labels_of(expr: str, metrics: Mapping[str, Set[str]]) -> set[str]:
    """The labels that an answer may have."""
    return _labels(promql.parse(expr), metrics, [])


def names_of(expr: str) -> set[str]:
    """The metrics that an expression reads."""
    return {name for selector in _selectors(promql.parse(expr)) for name in _names(selector)}


def _selectors(node: object) -> Iterator[promql.VectorSelector]:
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.BinaryExpr):
        yield from _selectors(node.lhs)
        yield from _selectors(node.rhs)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _selectors(argument)
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        yield from _selectors(node.expr)


def _names(selector: promql.VectorSelector) -> list[str]:
    """The name of a selector, or those that `{__name__=~"a|b"}` lists."""
    if selector.name:
        return [selector.name]
    return [name for m in selector.matchers.matchers if m.name == "__name__" for name in m.value.split("|")]


def _selector(node: promql.VectorSelector, metrics: Mapping[str, Set[str]], found: list[str]) -> set[str]:
    result: set[str] = set()
    for name in _names(node) or [""]:
        if name not in metrics:
            found.append(f"{name or 'a selector without a name'} is not exported: see docs/reference/metrics.md")
            return {ANY}
        used = {m.name for m in node.matchers.matchers} - {"__name__"}
        found += [f"{name} has no label {label}" for label in sorted(used - metrics[name])]
        result |= metrics[name]
    return result


def _labels(node: object, metrics: Mapping[str, Set[str]], found: list[str]) -> set[str]:
    """Labels of the result of a node; what is wrong in it goes to `found`."""
    match node:
        case promql.VectorSelector():
            return _selector(node, metrics, found)
        case promql.MatrixSelector():
            return _selector(node.vector_selector, metrics, found)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(node.expr, metrics, found)
        case promql.AggregateExpr():
            return _aggregate(node, metrics, found)
        case promql.BinaryExpr():
            return _binary(node, metrics, found)
        case promql.Call():
            return _call(node, metrics, found)
    return set()


def _aggregate(node: promql.AggregateExpr, metrics: Mapping[str, Set[str]], found: list[str]) -> set[str]:
    inner = _labels(node.expr, metrics, found)
    modifier = node.modifier
    if modifier is None:
        return inner if str(node.op) in ("topk", "bottomk") else set()
    wanted = set(modifier.labels)
    if ANY in inner:
        return inner
    found += [f"no metric in {node.expr.prettify()} has the label {name}" for name in sorted(wanted - inner)]
    return wanted if modifier.type == promql.AggModifierType.By else inner - wanted


def _binary(node: promql.BinaryExpr, metrics: Mapping[str, Set[str]], found: list[str]) -> set[str]:
    left, right = _labels(node.lhs, metrics, found), _labels(node.rhs, metrics, found)
    matching = node.modifier.matching if node.modifier else None
    if matching is not None and matching.type == promql.LabelModifierType.Include and ANY not in left | right:
        missing = set(matching.labels) - (left | right)
        found += [f"on ({name}): neither side has this label" for name in sorted(missing)]
    return left | right


def _call(node: promql.Call, metrics: Mapping[str, Set[str]], found: list[str]) -> set[str]:
    inner: set[str] = set()
    for argument in node.args:
        inner |= _labels(argument, metrics, found)
    if node.func.name == "histogram_quantile":
        if not inner & {"le", ANY}:
            found.append("histogram_quantile needs the label le")
        inner -= {"le"}
    return inner
