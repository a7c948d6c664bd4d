"""The command `broadsheet`.

Imports are few on purpose: `broadsheet broker` hands over to the broker before anything else is loaded, because the
memory and the start of a broker are part of the promise.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

BROKER_COMMANDS = ("broker", "contents", "format")
"""Commands that are the broker's own; it has its own help for them."""

DESCRIPTION = """\
Kafka in Python: brokers that speak Kafka's protocol, declared by manifests.

New here?            broadsheet quickstart
Run manifests:       broadsheet up -f docs/examples/quickstart.yaml
Look at them:        broadsheet get topics
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 only when what was asked has happened."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in BROKER_COMMANDS:
        return _hand_over(given)
    extra = "operator" if given and given[0] == "operator" else "local"
    try:
        if given and given[0] == "canary":
            return _canary(given[1:])
        return _operator(given[1:]) if extra == "operator" else _command(given)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package.startswith("broadsheet_"):
            raise
        print(
            f"broadsheet {given[0]}: the Python package {package} is not installed; "
            f"install the extra `{extra}`: pip install 'broadsheet[{extra}]'",
            file=sys.stderr,
        )
        return 1


def _operator(arguments: Sequence[str]) -> int:
    from broadsheet_operator.handlers.main import main as operator

    return operator(arguments)


def _canary(arguments: Sequence[str]) -> int:
    from broadsheet_operator.canary.main import main as canary

    return canary(arguments)


def _command(given: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return _run(options, parser)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output is gone, as `head` goes; what is still buffered must not raise again at the end.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _hand_over(arguments: Sequence[str]) -> int:
    """Become the broker: its module runs in this process, under its own name."""
    import runpy

    sys.argv = ["broadsheet", *arguments]
    try:
        runpy.run_module("broadsheet_broker", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    return 0


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import logging

    from broadsheet_operator.api.manifests import ManifestError
    from broadsheet_operator.local import commands

    # Statuses report what the client library would log, a restarting broker for example.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    logging.getLogger("kafka").propagate = False
    try:
        match options.command:
            case "up":
                return commands.up(options.filename, options.data, options.output)
            case "apply":
                return commands.apply(options.filename, options.data, options.timeout, options.output)
            case "get":
                kind, names = _kind_and_names(options.what, parser)
                return commands.get(kind, names, options.data, options.output)
            case "delete":
                targets = _targets(options, parser)
                return commands.delete(targets, options.filename, options.data, options.timeout, options.output)
            case _:
                from broadsheet_operator.local.quickstart import quickstart

                return quickstart(once=options.once, data=options.data, port=options.port)
    except ManifestError as error:
        commands.complain(commands.manifest_problem(error), options.output)
    except commands.Refused as error:
        commands.complain(str(error), options.output)
    return 1


def _kind_and_names(what: Sequence[str], parser: argparse.ArgumentParser) -> tuple[str | None, list[str]]:
    """`topics`, `topic orders`, `topic/orders` or nothing at all."""
    from broadsheet_operator.local.tables import NAMES

    if not what or what[0].lower() in ("all", "broadsheet"):
        return None, []
    word, slash, name = what[0].partition("/")
    if word.lower() not in NAMES:
        parser.error(f'unknown kind "{word}"; the kinds are: clusters, topics, consumergroups')
    return NAMES[word.lower()], [*([name] if slash else []), *what[1:]]


def _targets(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    if not options.what:
        if not options.filename:
            parser.error("name what to delete: `delete topic orders`, `delete topic/orders` or `delete -f FILE`")
        return []
    kind, names = _kind_and_names(options.what, parser)
    if kind is None or not names:
        parser.error("name a resource: `delete topic orders`")
    return [(str(kind), name) for name in names]


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="broadsheet",
        usage="broadsheet COMMAND ...",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listed: list[tuple[str, str]] = []
    commands = parser.add_subparsers(dest="command", prog="broadsheet", help=argparse.SUPPRESS)

    def command(name: str, words: str, outputs: Sequence[str] = ("table", "json")) -> argparse.ArgumentParser:
        listed.append((name, words))
        sub = commands.add_parser(name, description=words[0].upper() + words[1:] + ".")
        sub.add_argument("--data", default=".broadsheet", metavar="DIR", help="state directory (default: .broadsheet)")
        sub.add_argument("-o", "--output", choices=outputs, default=outputs[0], help=f"default: {outputs[0]}")
        return sub

    def files(sub: argparse.ArgumentParser, *, required: bool) -> None:
        sub.add_argument(
            "-f",
            "--filename",
            action="append",
            required=required,
            default=None if required else [],
            metavar="FILE",
            help="manifest file or directory; may be given several times",
        )

    def patience(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--timeout", type=float, default=30, metavar="SECONDS", help="how long to wait (default: 30)")

    start = command("quickstart", "a Kafka on localhost:9092 and a short demonstration")
    start.add_argument("--once", action="store_true", help="end after the demonstration")
    start.add_argument("--port", type=int, default=None, metavar="PORT", help="another port than 9092")
    files(command("up", "run what manifests declare on this machine, until Ctrl-C"), required=True)
    sub = command("apply", "declare resources to a running `up`, and wait until they are ready")
    files(sub, required=True)
    patience(sub)
    sub = command("get", "show resources and their live state", ("table", "wide", "json", "yaml"))
    sub.add_argument("what", nargs="*", metavar="KIND [NAME]", help="clusters, topics or consumergroups; or nothing")
    sub = command("delete", "delete resources; their deletionPolicy decides what happens to the data")
    sub.add_argument("what", nargs="*", metavar="KIND NAME", help="as in `topic orders` or `topic/orders`")
    files(sub, required=False)
    patience(sub)
    listed.append(("canary", "write and read records over every broker, and report what clients see"))
    listed.append(("operator", "run the operator on Kubernetes"))
    listed.append(("broker", "run one broker: broadsheet broker --config server.properties"))
    listed.append(("format", "prepare a broker's data directories, as kafka-storage does"))
    listed.append(("contents", "show what log directories of Kafka hold, before another program takes them over"))
    # argparse's own list breaks the line after the longest name.
    parser.epilog = "\n".join(["commands:", *(f"  {name:<12} {words}" for name, words in listed)])
    parser.epilog += "\n\n`broadsheet COMMAND --help` shows more about a command."
    return parser


if __name__ == "__main__":
    sys.exit(main())
