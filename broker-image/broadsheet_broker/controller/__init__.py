"""The controller: it decides what the cluster's metadata says, and writes it to the metadata log."""

from broadsheet_broker.controller.controller import Controller
from broadsheet_broker.controller.storage_tool import Identity, StorageError, format_directories, load_identity

__all__ = ["Controller", "Identity", "StorageError", "format_directories", "load_identity"]
