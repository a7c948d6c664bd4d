"""Whether the brokers of a Cluster may get the engine that it declares, or keep theirs, and why. Pure.

What is refused here is refused before a pod stops: the pods keep their template until the Cluster says something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from broadsheet_operator.api import Cluster
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.api.engine_versions import VERSIONS, minor_of
from broadsheet_operator.reconcilers import inputs
from broadsheet_operator.reconcilers.engines import Engine, engine_of
from broadsheet_operator.reconcilers.engines.apache_kafka import REPOSITORY, TITLE, ApacheKafka
from broadsheet_operator.reconcilers.engines.broadsheet import Broadsheet
from broadsheet_operator.reconcilers.engines.levels import unreadable
from broadsheet_operator.reconcilers.observed import Failure, FeaturesView

_OFFICIAL = re.compile(rf"^(?:.*/)?{REPOSITORY}(?:-native)?(?::(?P<tag>[^@]*))?(?:@.*)?$")
_VERSION = re.compile(r"^[0-9]+[.][0-9]+[.][0-9]+")


def running_engine(stateful_set: Mapping[str, Any] | None) -> Engine | None:
    """The engine of the pod template that there is; None where there is none."""
    if stateful_set is None:
        return None
    title = str(inputs.started_with(stateful_set["spec"]["template"]).get("engine", ""))
    return ApacheKafka(title.removeprefix(f"{TITLE} ")) if title.startswith(TITLE) else Broadsheet()


def needs_levels(cluster: Cluster, stateful_set: Mapping[str, Any] | None) -> bool:
    """Whether it has to be known what is finalized before the declared engine may run: it knows less than the other."""
    running, wanted = running_engine(stateful_set), engine_of(cluster)
    if running is None or running.type is not wanted.type:
        return False
    if running.type is EngineType.APACHE_KAFKA and minor_of(running.version) not in VERSIONS:
        return True  # an operator that knew more versions has started it
    return any(wanted.knows.get(name, (0, 0))[1] < high for name, (_, high) in running.knows.items())


def refusal(
    cluster: Cluster, stateful_set: Mapping[str, Any] | None, features: FeaturesView | Failure | None = None
) -> str:
    """Why the brokers keep the engine that they have, with what is allowed; empty when they get the declared one.

    `features`: what the cluster has finalized, asked where `needs_levels` says so.
    """
    wanted, running = engine_of(cluster), running_engine(stateful_set)
    words = image_of_another(cluster)
    if words:
        return words
    # Another type is the business of `exchange_steps`.
    if running is None or not needs_levels(cluster, stateful_set):
        return ""
    if not isinstance(features, FeaturesView):
        why = f" ({features.message})" if features is not None else ""
        return (
            f"the brokers keep {running.title}: {wanted.title} is older, and whether it can read what the cluster has "
            f"finalized is not known{why}; it is tried again"
        )
    levels = beyond(wanted, features.finalized)
    if not levels:
        return ""
    return (
        f"the brokers keep {running.title}: {wanted.title} cannot read what the cluster has finalized ({levels}); set "
        f"engine.version to {running.version}, or to another version that knows these levels"
    )


def beyond(engine: Engine, finalized: Mapping[str, int]) -> str:
    """The finalized levels that this engine does not know, with those that it knows; empty when it knows all."""
    return "; ".join(
        f"{each.name} {each.show(each.level)}, "
        + (f"it knows {each.show(each.high)} and less" if each.high else "it does not know it")
        for each in unreadable(engine, finalized)
    )


def image_of_another(cluster: Cluster) -> str:
    """Why spec.image is not one of the declared engine, where it has the name of the official image; else empty."""
    wanted, image = engine_of(cluster), cluster.spec.image or ""
    official = _OFFICIAL.match(image)
    if official is None:
        return ""
    if wanted.type is EngineType.BROADSHEET:
        return (
            f"spec.image {image} is one of Apache Kafka, and the engine is Broadsheet: set engine.type to "
            f"{EngineType.APACHE_KAFKA} in a new Cluster, or leave spec.image out"
        )
    if official[0].split("@")[0].split(":")[0].endswith("-native"):
        return f"spec.image {image} has no Java and none of Kafka's scripts; use {wanted.image}"
    version = _VERSION.match(official["tag"] or "")
    if version is not None and minor_of(version[0]) != minor_of(wanted.version):
        return (
            f"spec.image {image} has Apache Kafka {version[0]}, and engine.version is {wanted.version}: set "
            f"engine.version to the version of the image, or spec.image to one of {wanted.version}"
        )
    return ""


def image_of_before(cluster: Cluster, stateful_set: Mapping[str, Any]) -> str:
    """Why spec.image is not one of the declared engine where it is what another engine runs now; else empty."""
    wanted, running, image = engine_of(cluster), running_engine(stateful_set), cluster.spec.image
    if running is None or running.type is wanted.type or image is None:
        return ""
    if image != stateful_set["spec"]["template"]["spec"]["containers"][0]["image"]:
        return ""
    return f"spec.image {image} is the image of {running.title}: leave it out, or name one of {wanted.title}"
