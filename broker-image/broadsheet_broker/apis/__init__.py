"""One module per Kafka API or close family: decode, call a service, encode. `load` registers them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broadsheet_broker.apis.registry import Api


def load() -> dict[int, Api]:
    """Import every module of this package, and return the registry that their `@serves` have filled."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    from broadsheet_broker.apis.registry import REGISTRY

    return REGISTRY
