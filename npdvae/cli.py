"""The console command `npdvae COMMAND ...`, the same as `python -m npdvae.COMMAND ...`; errors of users in one line."""
from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys

from npdvae import __version__
from npdvae.backends import BackendError
from npdvae.process import over

MOST_TEXT = 1500                                # characters of an error
COMMANDS = {
    "train": "train a discrete VAE",
    "evaluate": "ELBO, importance-weighted bound, exact log p(x), KL and use of the code of a run",
    "sample": "draw images from a run",
    "report": "figures and one self-contained HTML page of a run",
    "explore": "one HTML page of a run that answers to the hand: decoder, codes, drawing, exact posterior",
    "verify": "prove what every estimator and every latent claims",
    "compare": "estimators against the exact gradient on a model",
    "sweep": "train every combination of a grid of settings, on one machine or many",
}


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are told in one line, with exit code 2."""

    def error(self, message):
        self.exit(2, f"npdvae: error: {one_line(message)} ({self.prog} --help lists the options)\n")


def guarded(command):
    """Wrap a command (argv -> exit code): a user's mistake prints one line and gives exit code 2."""
    def run(argv=None):
        try:
            return command(argv)
        except BrokenPipeError:                 # whoever reads the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt as stop:       # with the number of the signal where it was another than Ctrl-C
            number = getattr(stop, "number", signal.SIGINT)
            print(f"npdvae: interrupted by {signal.Signals(number).name}", file=sys.stderr)
            return 128 + number
        except (ValueError, OSError, BackendError, MemoryError, OverflowError) as error:
            if os.environ.get("NPDVAE_DEBUG"):
                raise
            print(f"npdvae: error: {one_line(error)}", file=sys.stderr)
            return 2
    return run


def add_run(parser, **own):
    """Arguments of a command that reads a run: its folder, trust in its code, a checkpoint."""
    parser.add_argument("run", metavar="RUN", **{"help": "run folder", **own})
    parser.add_argument("--trust", action="store_true", help="let the run name code of your own (module:Class)")
    parser.add_argument("--checkpoint", default="last", metavar="last|best|FILE",
                        help="which checkpoint (default: last)")


def one_line(error) -> str:
    """An error's text without control characters, which would reach the terminal, and not endless."""
    if isinstance(error, OSError) and error.filename and not error.filename2:
        error = f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} ..."


def main(argv=None):
    """Dispatch to a command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"npdvae {__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: npdvae COMMAND ... | --version\n\ncommands (npdvae COMMAND --help tells the options):")
        for name, what in COMMANDS.items():
            print(f"  {name:10s}{what}")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"npdvae: error: unknown command {argv[0]!r}, expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    name = f"npdvae.{argv[0]}.__main__" if argv[0] in ("explore", "verify", "sweep") else f"npdvae.{argv[0]}"
    return over(importlib.import_module(name).main(argv[1:]))
