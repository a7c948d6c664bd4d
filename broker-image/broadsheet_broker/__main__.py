"""The process: `python -m broadsheet_broker --config server.properties` runs a broker, `format` prepares its disks.

Exits with 0 only when it did what it was asked to: a broker that got SIGTERM and has stopped cleanly. What keeps
it from starting is one line on standard error. SIGTERM and SIGINT stop it cleanly, a second one at once.

The process imports the three packages that a broker needs, and nothing of the operator: its memory and its start are
part of the promise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from broadsheet_broker.config import BrokerConfig, ConfigError, load_config, log_format, whole_number
from broadsheet_broker.seams import log_lines
from broadsheet_broker.seams.memory import LOOK_SECONDS

if TYPE_CHECKING:
    from broadsheet_broker.broker import Broker
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.seams.loop_monitor import LoopMonitor
    from broadsheet_broker.seams.memory import MemoryWatch

logger = logging.getLogger("broadsheet_broker.main")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit code."""
    options = _parser().parse_args(_with_command(sys.argv[1:] if arguments is None else arguments))
    try:
        config = _load(options)
        command: int = options.run(options, config)
        return command
    except ConfigError as error:
        return _fail(str(error))
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}")
    except KeyboardInterrupt:
        return 130


_FOR_ALL_COMMANDS = ("-h", "--help", "--version")


def _with_command(arguments: Sequence[str]) -> list[str]:
    """Options without a command are those of a broker."""
    given = list(arguments)
    is_option = not given or (given[0].startswith("-") and given[0] not in _FOR_ALL_COMMANDS)
    return ["broker", *given] if is_option else given


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from broadsheet_broker import __version__
        from broadsheet_broker.compiled import build

        sys.stdout.write(f"broadsheet {__version__}\n{build()}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m broadsheet_broker" if "broadsheet_broker" in sys.orig_argv else "broadsheet",
        description="A Kafka broker. Options without a command run a broker: see `broker --help`.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    broker = commands.add_parser("broker", help="run a broker until SIGTERM; may be left out")
    broker.set_defaults(run=_run_broker)
    format_ = commands.add_parser("format", help="prepare empty log directories, as Kafka's storage tool does")
    format_.set_defaults(run=_format)
    format_.add_argument("--cluster-id", "-t", metavar="ID", help="the id of the cluster; a new one when left out")
    format_.add_argument(
        "--ignore-formatted", "-g", action="store_true", help="leave directories alone that are formatted already"
    )
    quorum = format_.add_mutually_exclusive_group()
    quorum.add_argument(
        "--standalone", "-s", action="store_true", help="make a quorum that can grow, with this node as its first voter"
    )
    quorum.add_argument(
        "--initial-controllers",
        "-I",
        default="",
        metavar="ID@HOST:PORT:DIRECTORY,...",
        help="make a quorum that can grow, with these first voters",
    )
    quorum.add_argument(
        "--no-initial-controllers", "-N", action="store_true", help="make a node that joins a quorum which can grow"
    )
    format_.add_argument(
        "--release-version", "-r", metavar="RELEASE", help="the release of Kafka to be compatible with"
    )
    format_.add_argument("--feature", "-f", action="append", default=[], metavar="NAME=LEVEL", help="a feature's level")
    contents = commands.add_parser(
        "contents",
        help="show what log directories hold: finalized features, kinds of records, groups, transactions",
        description="Shows what the log directories of a node, or of all nodes of a cluster, hold, whichever program "
        "wrote them: what another version or another program must know before it takes them over. Changes nothing.",
    )
    contents.set_defaults(run=_contents, config=None, override=[])
    contents.add_argument("directories", nargs="+", metavar="DIRECTORY", help="a log directory (log.dirs)")
    contents.add_argument("--output", "-o", choices=("text", "json"), default="text")
    for command in (broker, format_):
        command.add_argument("--config", "-c", metavar="FILE", help="server.properties; a local broker when left out")
        command.add_argument(
            "--override", action="append", default=[], metavar="KEY=VALUE", help="set one property; may be repeated"
        )
    return parser


def _load(options: argparse.Namespace) -> BrokerConfig:
    text = None
    _report_as_asked(options, text)
    if options.config is not None:
        with open(options.config, encoding="utf-8") as file:
            try:
                text = file.read()
            except UnicodeDecodeError as error:
                raise ConfigError(f"{options.config} is not UTF-8: {error.reason}") from None
        _report_as_asked(options, text)
    return load_config(text, options.override, os.environ, hostname=_hostname)


def _report_as_asked(options: argparse.Namespace, text: str | None) -> None:
    """What is wrong with the configuration is a line of JSON, too, if all lines are to be."""
    if log_format(text, options.override, os.environ) == "json" and not log_lines.is_json():
        log_lines.configure("WARNING", "json")


def _hostname() -> str:
    """What to advertise for a listener without host: this machine's name if it can be resolved."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return "localhost"
    return name


def _fail(message: str) -> int:
    if log_lines.is_json():
        logger.critical("%s", message)
    else:
        sys.stderr.write(f"broadsheet: {message}\n")
    return 1


# -- broker ------------------------------------------------------------------------------------------------------------


def _run_broker(options: argparse.Namespace, config: BrokerConfig) -> int:
    gc.disable()  # what is imported stays: nothing of it is worth looking at
    import uvloop

    log_lines.configure(
        config.get_str("broadsheet.log.level"), config.get_str("broadsheet.log.format"), {"node_id": config.node_id}
    )
    for warning in config.warnings:
        logger.warning(warning)
    for note in config.notes:
        logger.debug(note)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config))


async def _serve(config: BrokerConfig) -> int:
    from broadsheet_broker import compiled
    from broadsheet_broker.broker import Broker
    from broadsheet_broker.network import process_metrics
    from broadsheet_broker.seams import Environment, LocalFiles
    from broadsheet_broker.seams.memory import MemoryWatch, resident_bytes

    watch = MemoryWatch(partial(resident_bytes, LocalFiles()))
    environment = Environment(asyncio.get_running_loop(), files=LocalFiles(watch.took), on_buffer=watch.took)
    process_metrics.register(environment)
    stop = _stop_signal(environment.loop)
    broker = Broker(environment, config)
    broker.on_failure = lambda reason: stop.set()
    gc.enable()
    began = environment.monotonic()
    try:
        if not await _start(broker, stop):
            return 0
    except Exception as error:
        return _start_failed(error)
    _tune_garbage_collection(environment.loop, watch)
    listeners = ", ".join(str(item) for item in config.advertised_listeners or config.listeners)
    took = (environment.monotonic() - began) * 1000
    monitor = _watch_loop(environment, config.get_int("broadsheet.loop.slow.turn.ms"))
    made = compiled.build()
    logger.info("node %d started in %d ms, serving %s; %s", config.node_id, took, listeners, made)
    if made.code == "mixed":
        logger.warning("some modules are not compiled: %s; install the package again", ", ".join(made.missing))
    await stop.wait()
    logger.info("stopping")
    if monitor is not None:
        monitor.stop()
    await broker.stop()
    logger.info("stopped")
    return 0 if broker.failure is None else _fail(broker.failure)


async def _start(broker: Broker, stop: asyncio.Event) -> bool:
    """Start the broker; False when a signal to stop came before it was up."""
    starting = asyncio.ensure_future(broker.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        stopping.cancel()
        if starting.exception() is not None:
            await broker.stop()
        starting.result()
        return True
    logger.info("stopping while starting")
    starting.cancel()
    await asyncio.wait((starting,))
    await broker.stop()
    return False


def _start_failed(error: Exception) -> int:
    """One line for what a person can act on; the whole story for what only we can."""
    from broadsheet_broker.network import ListenError
    from broadsheet_broker.wire.errors import KafkaError

    if isinstance(error, ListenError | ConfigError | KafkaError):
        return _fail(str(error))
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}")
    if type(error).__module__.startswith("broadsheet_broker."):
        return _fail(str(error))
    logger.error("cannot start", exc_info=error)
    return _fail(f"cannot start: {type(error).__name__}: {error}")


def _stop_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; the second one ends the process at once."""
    stop = asyncio.Event()

    def stop_or_die(number: signal.Signals) -> None:
        if stop.is_set():
            logger.warning("second signal to stop: ending at once")
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_die, number)
    return stop


def _tune_garbage_collection(loop: asyncio.AbstractEventLoop, watch: MemoryWatch) -> None:
    """What there is after the start stays, so the collector need not look at it; and requests make few cycles. What
    such a cycle may hold, `watch` has an eye on."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

    def look() -> None:
        watch.look()
        loop.call_later(LOOK_SECONDS, look)

    look()


def _watch_loop(environment: Environment, slow_ms: int) -> LoopMonitor | None:
    """Measure the turns of the loop from now on; the start has long ones, and no clients."""
    from broadsheet_broker.seams.loop_monitor import LoopMonitor

    if not slow_ms:
        return None
    monitor = LoopMonitor(environment.loop, slow_ms, environment.work, environment.timer)
    monitor.register(environment.metrics)
    monitor.start()
    return monitor


# -- format ------------------------------------------------------------------------------------------------------------


def _format(options: argparse.Namespace, config: BrokerConfig) -> int:
    from broadsheet_broker.seams import Environment
    from broadsheet_broker.storage_tool import StorageError, format_directories
    from broadsheet_broker.wire.primitives import uuid_text

    log_lines.configure("WARNING", config.get_str("broadsheet.log.format"))
    loop = asyncio.new_event_loop()
    try:
        environment = Environment(loop)
        lines = format_directories(
            environment,
            config,
            options.cluster_id or config.cluster_id or uuid_text(environment.uuid()),
            ignore_formatted=options.ignore_formatted,
            standalone=options.standalone,
            initial_controllers=options.initial_controllers,
            release=options.release_version,
            features=_features(options.feature),
        )
    except StorageError as error:
        return _fail(str(error))
    finally:
        loop.close()
    sys.stdout.writelines(line + "\n" for line in lines)
    return 0


def _features(texts: Sequence[str]) -> dict[str, int]:
    """`--feature name=level` arguments."""
    levels = {}
    for text in texts:
        name, equals, level = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise ConfigError(f"Invalid feature {text!r}: allowed is name=level")
        number = whole_number(level, 0, 2**15 - 1)
        if number is None:
            raise ConfigError(f"Invalid value {level} for feature {name}: allowed is a whole number from 0 to 32767")
        levels[name] = number
    return levels


# -- contents ----------------------------------------------------------------------------------------------------------


def _contents(options: argparse.Namespace, config: BrokerConfig) -> int:
    import json

    from broadsheet_broker.contents import read_contents
    from broadsheet_broker.seams import LocalFiles
    from broadsheet_broker.storage_tool import META_PROPERTIES
    from broadsheet_broker.wire.errors import KafkaError

    files = LocalFiles()
    for directory in options.directories:
        if not files.exists(directory):
            return _fail(f"{directory}: there is no such directory. Name log.dirs")
        if not files.exists(f"{directory}/{META_PROPERTIES}"):
            return _fail(f"{directory} has no {META_PROPERTIES}: it is not a log directory of Kafka. Name log.dirs")
    try:
        found = read_contents(files, options.directories)
    except KafkaError as error:
        return _fail(error.message)
    except OSError as error:
        return _fail(f"{error.filename or ', '.join(options.directories)}: {error.strerror}")
    sys.stdout.write(json.dumps(found.as_json(), indent=2) + "\n" if options.output == "json" else found.as_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
