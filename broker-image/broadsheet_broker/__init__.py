"""A Kafka broker in Python: Kafka's protocol on the wire, Kafka's formats on disk, KRaft for its metadata."""

__version__ = "0.1.0"
