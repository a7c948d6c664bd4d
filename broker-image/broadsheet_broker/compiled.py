"""Which modules may be compiled (mypyc), and what the running program is: compiled or pure, by which interpreter.

The source is the same: `tools/compiled.py` compiles these modules as they are, and Python takes the compiled one where
there is one. docs/explanation/performance.md has what each of them gains; one that gains nothing is not here.
"""

from __future__ import annotations

import platform
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from typing import Final, NamedTuple

MODULES: Final = (
    "wire.primitives",
    "wire.record_rows",
    "wire.record_walk",
    "wire.record_windows",
    "wire.records",
    "wire.pieces",
    "seams.buffers",
    "seams.counters",
    "log.appending",
    "log.batch_rows",
    "log.cleaner",
    "log.index_file",
    "log.leader_epochs",
    "log.producer_state",
    "log.reading",
    "log.results",
    "log.rolling",
    "log.segment",
    "log.segments",
    "log.tail",
    "log.validation",
    "replication.appending",
    "replication.fetch_request",
    "replication.partition",
    "replication.position_reader",
    "replication.sessions",
    "apis.fetch",
    "apis.produce",
    "network.connection",
    "network.dispatch",
    "network.pending",
    "network.receiving",
    "network.turns",
)
"""Below `broadsheet_broker`. All are compiled together, so that they call each other as C functions."""

LIBRARY: Final = "machine_code"
"""The module that holds the machine code of all: `broadsheet_broker.machine_code__mypyc`."""


class Build(NamedTuple):
    """What the running program is made of."""

    code: str
    """`compiled`, `pure`, or `mixed`: some modules are compiled and some are not, which is a broken installation."""
    missing: tuple[str, ...]
    """The modules that are not compiled."""
    python: str
    """As `CPython 3.12.4`."""
    optimized: bool
    """Whether the interpreter was built with profile-guided optimization. Without, it takes a quarter more CPU."""

    def __str__(self) -> str:
        how = "optimized" if self.optimized else "built without profile-guided optimization"
        return f"{self.code}, {self.python} ({how})"


def build() -> Build:
    """What this program is made of."""
    missing = tuple(name for name in MODULES if not is_compiled(name))
    code = "compiled" if not missing else "pure" if len(missing) == len(MODULES) else "mixed"
    return Build(code, missing, f"{platform.python_implementation()} {platform.python_version()}", _optimized())


def is_compiled(name: str) -> bool:
    """Whether an import takes the compiled one of a module below `broadsheet_broker`."""
    parent, _, _ = name.rpartition(".")
    folder = __file__.rpartition("/")[0] + "/" + parent.replace(".", "/")
    found = PathFinder.find_spec(f"{__package__}.{name}", [folder])  # imports no package, as importlib.util would
    return found is not None and found.origin is not None and found.origin.endswith(tuple(EXTENSION_SUFFIXES))


def _optimized() -> bool:
    """Debian does not configure it but builds it so, and takes the flags out of what the interpreter reports."""
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in configured or not sysconfig.get_config_var("PGO_PROF_USE_FLAG")
