"""One node's part in the metadata: it reads the log, forwards orders to the active controller, and reports to it."""

from broadsheet_broker.node.identity import Identity
from broadsheet_broker.node.metadata_node import MetadataNode

__all__ = ["Identity", "MetadataNode"]
