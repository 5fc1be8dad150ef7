"""The `genseg` command. A user's mistake ends with exit code 2 and one clear message, never
a traceback."""

import argparse
import errno
import sys
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from genseg import __version__
from genseg.commands import (
    app,
    compare,
    convert,
    energy,
    evaluate,
    export,
    finetune,
    generate,
    predict,
    pretrain,
    probe,
    scan,
    scenes,
    split,
    study,
    tryout,
    visualize,
)
from genseg.commands.instances import choose, embed, group, measure
from genseg.core import interrupts
from genseg.core.reading import Reading, reading
from genseg.core.words import print_any_name
from genseg.recipes import recipes
from genseg.schema import MissingKey


@runtime_checkable
class Command(Protocol):
    """What a module of `genseg.commands` has."""

    SUMMARY: str
    HELP: str

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def act(self, options: argparse.Namespace) -> int:
        """Run it; returns the exit code."""


COMMANDS: dict[str, dict[str, Command]] = {  # by what one wants to do
    "look at images": {"scan": scan, "try": tryout, "scenes": scenes},
    "learn": {"pretrain": pretrain, "energy": energy, "split": split, "finetune": finetune},
    "use": {"generate": generate, "predict": predict, "export": export, "convert": convert},
    "use instances": {"measure": measure, "group": group, "embed": embed, "choose": choose},
    "measure models": {"evaluate": evaluate, "probe": probe, "compare": compare, "study": study},
    "look at results": {"visualize": visualize, "app": app},
}
MISTAKEN_PATHS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="genseg",
        description=f"Learn to segment from unlabelled images.\n\n{_overview()}",
        epilog="genseg COMMAND --help explains a command and its next step.",
        formatter_class=raw,
        usage="genseg [-h] [--version] COMMAND ...",
    )
    top.add_argument("--version", action="version", version=f"genseg {__version__}")
    subparsers = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="genseg"
    )
    for commands in COMMANDS.values():
        for name, command in commands.items():
            p = subparsers.add_parser(name, description=command.HELP, formatter_class=raw)
            command.add(p)
            p.set_defaults(act=command.act)
    return top


def _overview() -> str:
    """The commands by group, a line for each."""
    groups = []
    for title, commands in COMMANDS.items():
        lines = [f"  {name:<10} {command.SUMMARY}" for name, command in commands.items()]
        groups.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(groups)


def _words(options: argparse.Namespace) -> Reading:
    """How files are read, as far as the command line says it."""
    return Reading(getattr(options, "channels", ""), getattr(options, "pages", ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 it broke, 2 a user's mistake, and of one that
    was asked to end 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP)."""
    print_any_name()
    options, rest = parser().parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        keys = "; keys have no dashes, as steps=100" if hasattr(options, "overrides") else ""
        parser().error(
            f"{options.command} does not know {' '.join(rest)}{keys}; see genseg "
            f"{options.command} --help"
        )
    if hasattr(options, "overrides"):
        options.overrides += rest  # argparse stops collecting them at the first option
    try:
        with interrupts.raised(), reading(_words(options)):
            return options.act(options)
    except MissingKey as error:
        given = getattr(options, "config", True)  # genseg energy always has a recipe
        known = ", ".join(recipes(options.command))
        start = "" if given else f"; or start from a recipe by --config: {known}"
        print(f"genseg {options.command}: {error}{start}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        if stopped.args:  # where the work stands
            print(*stopped.args, file=sys.stderr)
        return interrupts.exit_code()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, *MISTAKEN_PATHS) as error:
        if type(error).__module__.split(".")[0] not in ("genseg", "builtins"):
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"genseg {options.command}: {error}", file=sys.stderr)
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        print(
            f"genseg {options.command}: {error}; the last checkpoint is untouched", file=sys.stderr
        )
        return 1
    except RuntimeError as error:
        if any(word in str(error) for word in ("gloo", "NCCL")):  # the words of torch's collectives
            print(
                f"genseg {options.command}: the other processes of this run cannot be reached, so "
                "this one ends; their messages are above. The same command goes on from the last "
                "checkpoint",
                file=sys.stderr,
            )
            return 1
        if type(error).__module__.split(".")[0] != "genseg":
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
