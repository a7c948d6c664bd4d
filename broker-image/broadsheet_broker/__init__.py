"""A Kafka broker in Python: Kafka's protocol on the wire, Kafka's formats on disk, KRaft for its metadata."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`: the one of the installed distribution, which has it from pyproject.toml."""
    if name == "__version__":
        from importlib.metadata import version

        return version("broadsheet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
