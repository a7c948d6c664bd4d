"""The few places through which the outside world comes in: time, randomness, files and sockets.

Everything above receives one `Environment` and touches the world through it only, so a whole cluster can run inside
one process under a virtual clock, with a simulated network and disk:

* time that people see (record timestamps, retention) comes from `Environment.clock`;
* timers, elapsed time, sockets and tasks come from `Environment.loop`, an asyncio event loop: uvloop in a real broker,
  a loop with a virtual clock and an in-memory network in the simulation;
* randomness (ids, jitter, elections) comes from `Environment.random`;
* files come from `Environment.files`; what blocks for long (fsync, recovery) goes through `Environment.offload`;
* work that grows with records or decompressed bytes is a generator for `Environment.in_steps`;
* the memory that buffers take is reported to `Environment.on_buffer`.
"""

from broadsheet_broker.seams.environment import Clock, Environment, SystemClock
from broadsheet_broker.seams.files import Buffer, File, Files, LocalFiles
from broadsheet_broker.seams.metrics import Metrics

__all__ = ["Buffer", "Clock", "Environment", "File", "Files", "LocalFiles", "Metrics", "SystemClock"]
