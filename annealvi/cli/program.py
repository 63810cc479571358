"""The command line. Heavy imports wait until a command needs them; wrong input is one line and exit status 2."""

from __future__ import annotations

import _thread
import argparse
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import IO, Any, NoReturn

from annealvi import __version__
from annealvi.own_packages import ForeignPackage, require_own_packages

DONE, CHECK_FAILED, BAD_INPUT, MISSING_COMPONENT, INTERRUPTED = 0, 1, 2, 3, 130

SOON = 0.5
"""Seconds after one interrupt in which another raises nothing."""

MOST_SECONDS = 3600.0
"""What a run may be expected to take at most. The bare `annealvi simulate` needs some 800 s on two cores, and is to
run."""


class _Parser(argparse.ArgumentParser):
    """argparse with its errors as one line and without abbreviated options."""

    def error(self, message: str) -> NoReturn:
        _tell(f"{message}; see `{self.prog} --help`")
        sys.exit(BAD_INPUT)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="annealvi",
        description="Mode collapse in annealed variational inference: derive the summary-statistics "
        "equations from the objective, "
        "generate kernels from them, and check both against particles.",
        epilog="PROBLEM is a TOML file or the name of a built-in problem (default: bimodal, the study's own setting). "
        "Start with `annealvi verify`; `annealvi COMMAND --help` has an example of each command. "
        "Exit status: 0 done, 1 a check failed or workers were lost, 2 bad input, 3 a component "
        "is missing, 130 interrupted, "
        "143 terminated.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"annealvi {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    verify = _command(
        commands,
        "verify",
        "check every derivation step, the kernels, and the equations against particles",
        "verify bimodal --out report",
    )
    verify.add_argument("--quiet", action="store_true", help="print no progress")
    verify.add_argument("--quick", action="store_true", help="a first look: a subset of the checks, which says so")

    derive = _command(
        commands, "derive", "the derivation, step by step", "derive bimodal --format markdown --out derivation"
    )
    derive.add_argument(
        "--format", choices=("text", "markdown", "latex"), default="text", help="how to print it (default: text)"
    )
    derive.add_argument(
        "--html",
        metavar="PATH",
        help="check every step and write one self-contained page with rendered mathematics; status 1 if one fails",
    )

    _limit_option(derive)

    rhs = _command(
        commands,
        "rhs",
        "the flow's velocity at one state",
        'rhs bimodal --state state.json, with {"means": [[3, 0], [0, 3]], "beta": 0.5} in state.json',
    )
    rhs.add_argument(
        "--state",
        required=True,
        metavar="FILE",
        help='JSON: {"means": one list of coordinates per component, "weights", "scales", "beta"}, or '
        '{"states": {"m_1": 0.1, ...}} or '
        '{"overlaps": {"M": [[...]], "Q": [[...]]}} in place of means; the others may be left '
        "out: the problem's and beta = 1",
    )

    integrate = _command(
        commands,
        "integrate",
        "the summary-statistics ODE from given or random initial states",
        "integrate bimodal --set schedule.T0=30 --n 100 --json paths.json",
    )
    _path_options(integrate, points=201)
    integrate.add_argument("--n", type=_count, default=16, help="random initial states (default: 16)")
    integrate.add_argument("--rtol", type=_tolerance, default=1e-9, help="relative tolerance per step (default: 1e-9)")
    integrate.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="E",
        help="absolute error of each average (default: 1e-10, or --rtol if that is less)",
    )
    integrate.add_argument(
        "--initial",
        metavar="FILE",
        help='start here instead; JSON: {"states": {"m_1": [0.1, ...], ...}}, one number per path',
    )
    _limit_option(integrate)

    simulate = _command(
        commands,
        "simulate",
        "the particle simulation: d-dimensional stochastic gradient flow",
        "simulate bimodal --set schedule.kind=hold --set schedule.t0=100 --replicas 32 --out run",
    )
    _path_options(simulate, points=101)
    simulate.add_argument(
        "--replicas",
        type=_replicas,
        default=16,
        metavar="N",
        help="independent runs; errors need at least 2 (default: 16)",
    )
    simulate.add_argument(
        "--particles", type=_count, default=256, metavar="N", help="samples per component and step (default: 256)"
    )
    simulate.add_argument(
        "--dt",
        type=_positive,
        default=0.1,
        help="step in the flow's time; the run ends at a whole number of them (default: 0.1)",
    )
    _projected_option(simulate)
    simulate.add_argument(
        "--precision", choices=("float64", "float32"), default="float64", help="of the samples (default: float64)"
    )
    simulate.add_argument(
        "--extrapolate",
        action="store_true",
        help="run again with half the step, extrapolate to step zero and report the step's bias",
    )

    collapse = _command(
        commands,
        "collapse",
        "the probability of mode collapse, by formula, ODE ensemble and particles",
        "collapse bimodal --set schedule.T0=100 --method formula,ode --n 20000",
    )
    collapse.add_argument(
        "--method",
        type=_methods,
        metavar="LIST",
        help="formula, ode and particles, separated by commas; the formula covers two components "
        "under two opposite modes, "
        "the others cover every problem (default: formula,ode, or ode where the formula does not cover "
        "the problem or would take long)",
    )
    collapse.add_argument(
        "--n",
        type=_count,
        help="trajectories of the ODE ensemble (default: 10000; fewer, and no fewer than 100, where those "
        "would take more than two minutes "
        "here, but with --over always 10000)",
    )
    collapse.add_argument(
        "--replicas", type=_replicas, default=64, metavar="N", help="independent particle runs (default: 64)"
    )
    collapse.add_argument(
        "--particles", type=_count, default=256, metavar="N", help="samples per component and step (default: 256)"
    )
    collapse.add_argument(
        "--dt", type=_positive, default=0.1, help="the particles' step in the flow's time (default: 0.1)"
    )
    _projected_option(collapse)
    collapse.add_argument(
        "--t-end",
        type=_positive,
        metavar="T",
        help="when particles are read, and trajectories that are not proven decided (default: the schedule's "
        "settling time plus 50, and of "
        "particles 1.2 times the time by which the ODE ensemble is proven decided, where there is such a time)",
    )
    _weight_option(collapse)
    collapse.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=LO:HI:N[:log]",
        help="compute it at these values of a key, or at some with KEY=VALUE,VALUE,…; repeat it for a grid "
        "(written to --out, or to ./collapse)",
    )
    _cost_option(collapse)
    _sweep_options(collapse)

    fixed = _command(
        commands,
        "fixed-points",
        "fixed points, their spectra, and how they branch as the temperature varies",
        "fixed-points bimodal --T-range 1:1000 --out branches",
    )
    fixed.add_argument(
        "--T",
        type=_temperatures,
        metavar="LIST",
        help="temperatures, separated by commas, at which all are sought (default: 1)",
    )
    fixed.add_argument(
        "--T-range",
        type=_range,
        metavar="LO:HI",
        help="follow the branches between these temperatures instead, and draw them",
    )
    fixed.add_argument(
        "--levels",
        type=_points,
        default=5,
        metavar="N",
        help="temperatures of the range at which branches begin (default: 5)",
    )
    fixed.add_argument(
        "--starts", type=_replicas, default=48, metavar="N", help="random starts of the search, per round (default: 48)"
    )

    phase = _command(
        commands,
        "phase",
        "a map of the probability of collapse over two numbers of the problem, as netCDF and a figure",
        "phase bimodal --x schedule.T0=3:3000:60:log --y schedule.t0=10:3000:60:log --out map",
    )
    for option, default in (("--x", "schedule.T0=3:3000:40:log"), ("--y", "schedule.t0=10:3000:40:log")):
        phase.add_argument(
            option,
            default=default,
            metavar="KEY=LO:HI:N[:log]",
            help="a key of the problem file such as schedule.T0 or target.scales[0], or R (of the modes and "
            "the radius), w_star or w_1; "
            f":log for equal ratios; KEY=VALUE,VALUE,… for some (default: {default})",
        )
    phase.add_argument(
        "--result",
        choices=("p", "p_leading", "b_c", "growth", "p_ode"),
        default="p",
        help="p by the formula, its leading order, b_c, the growth exponent, or p by an ODE ensemble (default: p)",
    )
    _weight_option(phase)
    phase.add_argument(
        "--n", type=_count, default=4000, help="trajectories per point of an ODE ensemble (default: 4000)"
    )
    phase.add_argument(
        "--ode",
        type=_points,
        metavar="N",
        help="overlay the contours of ODE ensembles on N × N points of the map (default: none)",
    )
    phase.add_argument(
        "--particles", type=_points, metavar="N", help="overlay particle runs at N × N points (default: none)"
    )
    phase.add_argument(
        "--replicas", type=_replicas, default=32, metavar="N", help="particle runs per point (default: 32)"
    )
    _cost_option(phase)
    _sweep_options(phase)

    recommend = _command(
        commands,
        "recommend",
        "the cheapest schedule whose probability of collapse is at most a wanted one",
        "recommend bimodal --p-max 0.05 --R 2:3.5",
    )
    recommend.add_argument(
        "--p-max", type=float, required=True, metavar="P", help="the largest probability of collapse to accept"
    )
    recommend.add_argument(
        "--kinds", type=_names, metavar="LIST", help="kinds to try (default: all that have T0 and t0)"
    )
    recommend.add_argument(
        "--R", type=_range, metavar="LO:HI", help="the separation lies between these: recommend for the worst case"
    )
    recommend.add_argument(
        "--n",
        type=_count,
        default=20_000,
        help="trajectories of each ODE ensemble that is to confirm the result; status 1 where "
        "it does not (default: 20000)",
    )

    flow = _command(
        commands,
        "flow",
        "RealNVP flows trained on the tempered reverse KL, many seeds side by side, and whether they collapse",
        "flow bimodal --set space.dimension=16 --set schedule.t0=500 --layers 4 --width 32 --seeds 16 --out run",
    )
    settled = "until the schedule has settled and 20000 more, or 10000 where it is adaptive"
    flow.add_argument("--steps", type=_count, metavar="N", help=f"optimiser steps (default: {settled})")
    flow.add_argument(
        "--seeds", type=_replicas, default=4, metavar="N", help="flows, trained side by side (default: 4)"
    )
    flow.add_argument("--batch", type=_points, default=256, metavar="N", help="samples in each step (default: 256)")
    flow.add_argument("--layers", type=_layers, default=8, metavar="N", help="coupling layers (default: 8)")
    flow.add_argument(
        "--width", type=_width, default=64, metavar="N", help="of their networks' hidden layers (default: 64)"
    )
    flow.add_argument(
        "--depth", type=_layers, default=3, metavar="N", help="hidden layers of each network (default: 3)"
    )
    flow.add_argument(
        "--architecture",
        choices=("plain", "study"),
        default="plain",
        help="study: batch normalisation on each network's input, as in the study's code (default: plain, without)",
    )
    flow.add_argument(
        "--gradient",
        choices=("path", "total"),
        default="path",
        help="path: of log q along the samples' paths alone, without noise where q = p; total: "
        "all of it (default: path)",
    )
    flow.add_argument(
        "--learning-rate",
        type=_positive,
        default=1e-3,
        metavar="RATE",
        help="of Adam, in the first step (default: 0.001)",
    )
    flow.add_argument(
        "--decay",
        choices=("cosine", "constant"),
        default="cosine",
        help="of the learning rate, to a hundredth of it (default: cosine)",
    )
    flow.add_argument(
        "--clip", type=_positive, metavar="NORM", help="scale gradients down to this norm (default: as they are)"
    )
    flow.add_argument(
        "--time-per-step",
        type=_positive,
        default=1.0,
        metavar="TIME",
        help="of the schedule's t (default: 1, so t0 counts steps)",
    )
    flow.add_argument(
        "--records",
        type=_count,
        default=20,
        metavar="N",
        help="how often the flows of one run are judged (default: 20)",
    )
    keys = "keys of the target, the schedule or the space, or R or w_star"
    flow.add_argument(
        "--x", metavar="KEY=LO:HI:N[:log]", help=f"with --y: map P(collapse) over two {keys}; with --kinds: schedule.T0"
    )
    flow.add_argument("--y", metavar="KEY=LO:HI:N[:log]", help="see --x")
    flow.add_argument(
        "--kinds",
        type=_names,
        metavar="LIST",
        help="compare these kinds of schedule over --x, at equal numbers of steps",
    )
    flow.add_argument(
        "--anneal",
        type=_count,
        default=1500,
        metavar="N",
        help="with --kinds: steps in which the schedules come to T = 1.05 (default: 1500)",
    )
    flow.add_argument(
        "--after",
        type=_count,
        default=2000,
        metavar="N",
        help="steps of each cell of a map or comparison once it has come to T = 1.05, where --steps "
        "is not given (default: 2000)",
    )
    flow.add_argument(
        "--samples", type=_samples, metavar="N", help="of each judgement (default: 8192; of a map or comparison, 2048)"
    )
    _cost_option(flow)
    _sweep_options(flow)

    _command(
        commands,
        "paper",
        "the article with its equations, tables and figures, from the derivation and from results "
        "computed anew (of flows: stored ones)",
        "paper three-mode.toml --out paper",
        problem_help="TOML file or built-in name that gets an appendix of its own (default: none beside the article's)",
        out_help="the folder to write (default: paper)",
    )
    return parser


def _command(
    commands: Any,
    name: str,
    about: str,
    example: str,
    problem_help: str = "TOML file or built-in name (default: bimodal)",
    out_help: str = "write the result as files to this folder",
) -> argparse.ArgumentParser:
    description = about[0].upper() + about[1:] + "."
    parser = commands.add_parser(
        name, help=about, description=description, epilog=f"Example: annealvi {example}", allow_abbrev=False
    )
    parser.add_argument("problem", nargs="?", default="bimodal", metavar="PROBLEM", help=problem_help)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the problem, such as schedule.T0=100; repeatable",
    )
    parser.add_argument("--json", metavar="PATH", help="write the result as JSON; - is standard output")
    parser.add_argument("--out", metavar="DIR", help=out_help)
    parser.add_argument("--force", action="store_true", help="overwrite results that are there already")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of every random choice (default: 0)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where kernels run (default: auto)"
    )
    return parser


def _path_options(parser: argparse.ArgumentParser, points: int) -> None:
    settled = (
        "the schedule's settling time plus 50, or 50 after every path has reached beta = 1 "
        "where the schedule is adaptive"
    )
    parser.add_argument("--t-end", type=_positive, metavar="T", help=f"final time (default: {settled})")
    parser.add_argument("--points", type=_points, default=points, metavar="N", help=f"output times (default: {points})")
    _cost_option(parser)


def _cost_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-cost",
        type=_positive,
        default=MOST_SECONDS,
        metavar="SECONDS",
        help=f"refuse a run that is expected to take longer, stop one that takes twice as long "
        f"(default: {MOST_SECONDS:g})",
    )


def _sweep_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how a sweep is run", "Its numbers do not depend on any of these. An interrupted one goes on."
    )
    group.add_argument("--plan", action="store_true", help="say what a sweep would take, and do nothing")
    group.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share the cores (default: the command's own choice)",
    )
    group.add_argument(
        "--chunk", type=_count, metavar="N", help="units of work kept together (default: some seconds' worth)"
    )
    group.add_argument(
        "--engine",
        choices=("local", "dask"),
        default="local",
        help="processes of this machine, or Dask, an extra (default: local)",
    )
    group.add_argument(
        "--scheduler", metavar="tcp://…", help="of a Dask cluster (default: a cluster of this machine's own)"
    )


def _projected_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--projected",
        action="store_true",
        help="draw the particles in the span of modes and means only, and what they have outside as one "
        "vector: the same law, and in many "
        "dimensions faster; for one scale in each mixture and nothing learned but means",
    )


def _weight_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--least-weight",
        type=_share,
        metavar="SHARE",
        help="with learned weights: a mode is missed as well where the components nearest to it hold less "
        "than this share of the mode's "
        "own weight (default: 0.1, as of flows)",
    )


def _limit_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--large-dimension",
        action="store_true",
        help="the limit of many dimensions of what unequal scales make depend on the dimension",
    )


def _number(convert: Callable[[str], Any], accept: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {wanted}")
        return value

    return parse


def _temperatures(text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(1 <= T < 1e12 for T in values):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a list of temperatures of at least 1, separated by commas"
        )
    return values


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not LO:HI") from None
    return low, high


def _methods(text: str) -> tuple[str, ...]:
    known = ("formula", "ode", "particles")
    names = text.split(",")
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a list of {', '.join(known)}, separated by commas")
    return tuple(names)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


_seed = _number(int, lambda x: 0 <= x < 2**64, "an integer from 0 to 2^64 − 1")
_count = _number(int, lambda x: 1 <= x <= 10**9, "a whole number from 1 to 10^9")
_replicas = _number(int, lambda x: 1 <= x <= 2**24, "a whole number from 1 to 2^24")
_points = _number(int, lambda x: 2 <= x <= 10**7, "a whole number from 2 to 10^7")
_workers = _number(int, lambda x: 1 <= x <= 1024, "a whole number from 1 to 1024")
_layers = _number(int, lambda x: 1 <= x <= 64, "a whole number from 1 to 64")
_width = _number(int, lambda x: 1 <= x <= 8192, "a whole number from 1 to 8192")
_samples = _number(int, lambda x: 100 <= x <= 10**6, "a whole number from 100 to 10^6")
_positive = _number(float, lambda x: 0 < x < 1e12, "a positive number below 1e12")
_share = _number(float, lambda x: 0 < x < 1, "a number above 0 and below 1")
_tolerance = _number(float, lambda x: 1e-13 <= x <= 1e-2, "a tolerance from 1e-13 to 1e-2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a check failed, 2 bad input, 3 a missing component, 128 + a
    signal's number.

    Without arguments the process is taken to be this command's: they are those of the process, and once it has ended
    Ctrl-C is ignored.
    """
    signals: list[signal.Signals] = []
    try:
        with _insisting_on_interrupts(
            signals, afterwards=signal.SIG_IGN if arguments is None else signal.default_int_handler
        ):
            status = _guarded(arguments, signals)
    except KeyboardInterrupt:
        return _interrupted(signals)
    return _interrupted(signals) if signals else status


def _guarded(arguments: Sequence[str] | None, signals: list[signal.Signals]) -> int:
    sys.stdout = sys.stdout or io.StringIO()  # None where the caller has closed it
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no β must end a run whose terminal is not UTF-8
    options = argparse.Namespace(problem="problem", set=[])
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments), options, arguments is None)
        sys.stdout.flush()  # at exit it would be too late for a message
        return status
    except BrokenPipeError:
        _abandon_standard_output()  # the reader has left: nobody is told
        return DONE
    except Exception as error:
        told = _told(error, options)
        # the compiler drops a KeyboardInterrupt and then fails in its own way, and so may what is removed on the way
        # out
        if signals:
            line = told[1] if told else f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            _tell(f"on the way out: {line}")
            return INTERRUPTED
        if told is None:
            raise
        if isinstance(error, OSError):
            _abandon_standard_output()
        _tell(told[1])
        return told[0]


def _interrupted(signals: list[signal.Signals]) -> int:
    exec(
        ""
    )  # a KeyboardInterrupt that has passed through an exec would end Python by the signal, whatever status is returned
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # after the terminal's ^C
    _tell("interrupted")
    return 128 + signals[0] if signals else INTERRUPTED


@contextmanager
def _insisting_on_interrupts(signals: list[signal.Signals], afterwards: Any) -> Iterator[None]:
    """Make SIGTERM and a closed terminal what Ctrl-C is, note each, and raise it again each second until the command
    has ended.

    The compiler drops some. One that comes soon after another is noted only, so that files are removed undisturbed, and
    so is one outside `_guarded`, so that this is. A signal that the caller handles or ignores stays as it is, and so do
    all outside the main thread. afterwards: what then handles Ctrl-C.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        usual[signal.SIGHUP] = signal.SIG_DFL
    in_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if in_main and signal.getsignal(number) == handler]
    ended, raised = threading.Event(), -SOON

    def insist() -> None:
        while not ended.wait(1.0):
            _thread.interrupt_main(signals[0])

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if not signals:
            _thread.start_new_thread(insist, ())  # by threading.Thread it could meet a lock that this thread holds
        signals.append(signal.Signals(number))
        if _is_guarded(frame) and time.monotonic() - raised >= SOON:
            raised = time.monotonic()
            raise KeyboardInterrupt

    def unraisable(found: Any) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):  # that one is noted, and raised again where it is heard
            before(found)

    before = sys.unraisablehook
    try:
        sys.unraisablehook = unraisable
        for number in ours:
            signal.signal(number, note)
        yield
    finally:
        ended.set()
        for number in ours:
            signal.signal(number, afterwards if number == signal.SIGINT else signal.SIG_DFL)
        sys.unraisablehook = before


def _is_guarded(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not _guarded.__code__:
        frame = frame.f_back
    return frame is not None


def _run(given: list[str], options: argparse.Namespace, own_process: bool) -> int:
    try:
        build_parser().parse_args(given, options)
    except SystemExit as stop:
        return int(stop.code or 0)
    require_own_packages()
    import logging

    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it warns of having no folder for its fonts, which changes no figure
    from annealvi.cli.console import telling_stages

    quiet = not own_process or getattr(options, "quiet", False)
    with nullcontext() if quiet else telling_stages(options.command):
        return importlib.import_module("annealvi.cli.commands").RUN[options.command](options)


def _told(error: Exception, options: argparse.Namespace) -> tuple[int, str] | None:
    """Exit status and line for an error that is the user's to mend, None for one that is ours."""
    if isinstance(error, ForeignPackage):
        return BAD_INPUT, str(error)
    from derive.problem.specification import BadInput

    if isinstance(error, BadInput):
        if error.source == "problem":  # found after reading: name where the key was given
            changed = {text.partition("=")[0].strip() for text in options.set}
            error = error.at("--set" if error.key.split("[")[0] in changed else options.problem)
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        return BAD_INPUT, "not enough memory; ask for fewer paths, replicas, points or dimensions"
    if isinstance(error, OSError):
        place = error.filename or ("standard output" if _fails(sys.stdout) else "standard output, or what has no name")
        return (
            BAD_INPUT,
            f"{place}: cannot be written or read ({error.strerror or error}); free space or choose another place",
        )
    if type(error).__name__ in ("TypesettingError", "NoFigure", "WorkersLost"):
        return CHECK_FAILED, str(error)
    if type(error).__name__ in ("DeviceUnavailable", "MissingComponent"):
        return MISSING_COMPONENT, str(error)
    if type(error).__name__ == "DivergenceError":
        return (
            (BAD_INPUT, f"--dt: {error}; give a shorter step") if hasattr(options, "dt") else (CHECK_FAILED, str(error))
        )
    if type(error).__name__ == "NotConvergedError":
        return (
            BAD_INPUT,
            f"an average is too sharp to be computed ({error}); bring modes and means within a few "
            f"hundred scales of each other",
        )
    if type(error) is ArithmeticError or any(kind.__name__ == "IntegrationError" for kind in type(error).__mro__):
        return CHECK_FAILED, str(error)
    return None


def _tell(message: str) -> None:
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    sys.stderr.write(f"annealvi: {line}\n")


def _fails(stream: IO[str]) -> bool:
    """Whether a stream still holds what it could not write."""
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def _abandon_standard_output() -> None:
    """Point standard output to nowhere, so that what it still holds raises nothing at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
