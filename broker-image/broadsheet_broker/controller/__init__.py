"""The active controller: it decides what the cluster's metadata says, and writes it to the metadata log."""
