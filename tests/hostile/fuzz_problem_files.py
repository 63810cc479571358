"""Hostile input by the hundred thousand: `python tests/hostile/fuzz_problem_files.py --cases 100000 --jobs 2 --seed 0`.

Each case goes through the real command line in a worker process, up to where the command would begin to compute. It
must be accepted in silence, or refused by status 2 and one clear line, within 5 s, with no code run and nothing
written. Some accepted problems are derived and integrated as well. A case is known by its kind, the seed and its
number; the bytes of those that fail are kept.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import faulthandler
import importlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock
from types import FrameType
from typing import Any

SECONDS = 5.0
"""The processor time that reading may take. The real time may be ten times as long, because other work may come in
between."""
DEEP_SECONDS = 60.0
"""The same limit for the derivation of a small accepted problem, and for a short integration."""
CASES_OF_A_WORKER = 4000
MOST_CHARACTERS = 1000
FILES = {"problem": "case.toml", "set": None, "state": "case.json", "initial": "case.json"}
COMMANDS = {
    "problem": ["derive", "case.toml"],
    "set": ["derive"],
    "state": ["rhs", "--state", "case.json"],
    "initial": ["integrate", "--initial", "case.json"],
}


@dataclass
class Outcome:
    """The outcome of one case.

    `line` is what the command said; `faults` lists what is wrong and is empty where all is well.
    """

    number: int
    accepted: bool = False
    deep: bool = False
    seconds: float = 0.0
    line: str = ""
    faults: list[str] = field(default_factory=list)
    content: bytes = b""


@dataclass(frozen=True)
class Task:
    """The cases first, first + 1, …, stop − 1 of a kind and a seed.

    If `deep` is not 0, every accepted problem whose number is divisible by `deep` is derived when it is small, and
    integrated when its number is divisible by 10 `deep`. `plants` names readers of `hostile_readers` that replace
    `load_problem` one after the other; each has a fault that must be found.
    """

    kind: str
    seed: int
    first: int
    stop: int
    seconds: float = SECONDS
    deep: int = 0
    plants: tuple[str, ...] = ()


# Runs in the worker


def generator(kind: str) -> Callable[[int, int], bytes]:
    """The function that makes the content of a case from its seed and number.

    It uses Hypothesis's entry point for other fuzzers, which keeps no history and shrinks nothing.
    """
    from hypothesis import given, settings
    from problem_file_grammar import INPUTS

    drawn: list[bytes] = []

    @settings(database=None, deadline=None)
    @given(INPUTS[kind])
    def draw(content: bytes) -> None:
        drawn[:] = [content]

    def case(seed: int, number: int) -> bytes:
        drawn.clear()
        draw.hypothesis.fuzz_one_input(random.Random(f"{kind} {seed} {number}").randbytes(1 << 16))  # type: ignore[attr-defined]
        return drawn[0]

    return case


class Watch:
    """An audit hook that, while it is on, notes every audit event that the reading of the one file does not explain."""

    HARMLESS = frozenset(
        {
            "builtins.id",
            "sys._getframe",
            "sys.setprofile",
            "object.__getattr__",
            "object.__setattr__",
            "object.__delattr__",
        }
    )
    LIBRARIES = ("sympy", "mpmath", "encodings")

    def __init__(self, file: str | None) -> None:
        self.file, self.on, self.seen = file, False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False
        if not self.allowed(event, arguments):
            self.seen.append(f"{event} {arguments!r}"[:300])
        self.on = True

    def allowed(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event in self.HARMLESS:
            return True
        if event == "open":
            path, _, flags = arguments
            if path == self.file and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return True
        if event == "import" and self.of_libraries(arguments[0]):
            return True
        caller = sys._getframe(2)
        if event in ("compile", "exec"):
            file = caller.f_code.co_filename
            if file.endswith(
                "sympy/polys/monomials.py"
            ):  # the functions that it makes depend on a number of variables only
                return True
            if file.endswith("sympy/utilities/lambdify.py"):
                return event == "exec" or is_plain_formula(arguments[0])
        return self.imported(caller)

    def imported(self, frame: FrameType | None) -> bool:
        """Whether the frame is part of the import of a library's module, which may import other modules in turn."""
        while frame is not None:
            code = frame.f_code
            if (
                code.co_filename == "<frozen importlib._bootstrap>"
                and code.co_name == "_find_and_load"
                and self.of_libraries(frame.f_locals["name"])
            ):
                return True
            frame = frame.f_back
        return False

    def of_libraries(self, module: str) -> bool:
        return module.split(".")[0] in self.LIBRARIES


_ARITHMETIC = (
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.Call,
    ast.BinOp,
    ast.operator,
    ast.UnaryOp,
    ast.unaryop,
    ast.IfExp,
    ast.Tuple,
    ast.Compare,
    ast.cmpop,
)


def is_plain_formula(source: Any) -> bool:
    """Whether the Python source has the form that SymPy gives to a schedule.

    That is one function that returns arithmetic in known names, without attributes.
    """
    from derive.problem.double_functions import DOUBLE_FUNCTIONS
    from derive.problem.expression_parser import FUNCTIONS

    known = {
        *FUNCTIONS,
        *(f.__name__ for f in DOUBLE_FUNCTIONS.values()),
        *("pi", "e", "nan", "inf", "fabs", "float", "interpolate", "t", "T0", "t0"),
    }
    match ast.parse(source).body if isinstance(source, str | bytes) else []:
        case [ast.FunctionDef(args=arguments, body=[ast.Return(value=ast.expr() as formula)], decorator_list=[])]:
            nodes = [*ast.walk(formula), *(node for value in arguments.defaults for node in ast.walk(value))]
            return all(isinstance(node, _ARITHMETIC) and getattr(node, "id", "t") in known for node in nodes)
    return False


class ReadingEndedError(BaseException):
    """Raised with the `result` of reading where a command would begin to compute.

    It is no `Exception`, so that the command line does not handle it.
    """

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def stop_after_reading(kind: str) -> Callable[..., Any]:
    """Make each command read and check its input as usual, and stop before its first computation.

    Returns the real `open_session`.
    """
    sessions = importlib.import_module("annealvi.session.session")
    open_session = sessions.open_session

    def stop(result: Any, *_: Any, **__: Any) -> None:
        raise ReadingEndedError(result)

    if kind == "initial":
        session = open_session(importlib.import_module("derive.problem.specification").Problem())
        sessions.open_session = lambda *_: session
        importlib.import_module("annealvi.runs.trajectories").integrate = lambda _, initial, **__: stop(initial)
    elif kind == "state":
        importlib.import_module("annealvi.runs.velocity").result = lambda _, state: stop(state)
    else:
        sessions.open_session = stop
    return open_session


@dataclass
class Answer:
    """What the command line did; `status` is None where the command came to compute, and `result` is what it read."""

    status: int | None = None
    result: Any = None
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def ask(arguments: list[str], seconds: float, watch: Watch | None = None) -> Answer:
    """The command line's answer. If the answer takes longer than `seconds`, even within C code, the process ends."""
    from annealvi.cli.program import main

    answer, out, err = Answer(), io.StringIO(), io.StringIO()
    begun = time.process_time()
    faulthandler.dump_traceback_later(10 * seconds, exit=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if watch is not None:
            watch.on = True
        try:
            answer.status = main(arguments)
        except ReadingEndedError as ended:
            answer.result = ended.result
        except BaseException:
            if watch is not None:
                watch.on = False
            answer.faults.append(f"a traceback: {traceback.format_exc()[-1500:]}")
        finally:
            if watch is not None:
                watch.on = False
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.cancel_dump_traceback_later()
    answer.seconds = time.process_time() - begun
    answer.out, answer.err = out.getvalue(), err.getvalue()
    return answer


def faults_of_refusal(answer: Answer, named: tuple[str, ...]) -> list[str]:
    """What is wrong with a refusal.

    A refusal must be one printable line that names one of `named` and gives a remedy, and nothing else.
    """
    line = answer.err.removesuffix("\n")
    wrong = {
        f"status {answer.status}": answer.status != 2,
        "something on standard output": answer.out != "",
        "not one line": not answer.err.endswith("\n") or not line.isprintable(),
        "too long a line": len(line) > MOST_CHARACTERS,
        "no line of this program": not line.startswith("annealvi: "),
        "a line that does not say where": not any(name in line for name in named),
        "a line without a remedy": "; " not in line,
    }
    return [f"{fault}: {answer.err[:1500]!r}" for fault, found in wrong.items() if found]


def faults_of_acceptance(answer: Answer, task: Task) -> list[str]:
    """What is wrong with an acceptance.

    An acceptance must be silent, and the problem must be the same after it is written and read again.
    """
    faults = [f"something was said: {answer.out + answer.err!r}"] if answer.out or answer.err else []
    if task.kind == "problem":
        Path("case.toml").write_text(
            importlib.import_module("derive.problem.problem_file").problem_to_toml(answer.result), encoding="utf-8"
        )
        if ask(COMMANDS["problem"], task.seconds).result != answer.result:
            faults.append("written and read again it is another problem")
    return faults


class Examiner:
    def __init__(self, task: Task) -> None:
        self.task, self.case = task, generator(task.kind)
        self.open_session = stop_after_reading(task.kind)
        self.warm_up()
        self.watch = Watch(FILES[task.kind])

    def warm_up(self) -> None:
        """Run a formula, mistakes and documents, so that the modules they import are imported before the first case."""
        formula = ["--set=schedule.kind=expression", '--set=schedule.expression="max(1, 2 - t) + abs(sin(t))*exp(-t)"']
        for arguments in (["derive", *formula], ["derive", "--set=a\x1b=\n"], ["foo"]):
            ask(arguments, 10 * SECONDS)
        for content in (b"{", b"a = [1979-05-27, 1]\n[b]\n", b"\xff"):
            ask(self.arguments(content), 10 * SECONDS)

    def arguments(self, content: bytes) -> list[str]:
        """The arguments of the command line; the content is in the file that they name, or in the overrides."""
        file, command = FILES[self.task.kind], COMMANDS[self.task.kind]
        if file is not None:
            Path(file).write_bytes(content)
            return command
        from problem_file_grammar import as_overrides

        return [*command, *(f"--set={override}" for override in as_overrides(content))]

    def examine(self, number: int) -> Outcome:
        task, content = self.task, self.case(self.task.seed, number)
        if task.plants:
            planted = getattr(importlib.import_module("hostile_readers"), task.plants[number % len(task.plants)])
            importlib.import_module("derive.problem.problem_file").load_problem = planted
        arguments = self.arguments(content)
        answer = ask(arguments, task.seconds, self.watch)
        outcome = Outcome(
            number, answer.result is not None, seconds=answer.seconds, line=answer.err.strip(), faults=answer.faults
        )
        outcome.faults += [f"did more than read: {event}" for event in self.watch.seen]
        self.watch.seen.clear()
        if not answer.faults and not outcome.accepted:
            outcome.faults += faults_of_refusal(answer, (FILES[task.kind] or "--set",))
        elif not answer.faults:
            outcome.faults += faults_of_acceptance(answer, task)
        if (
            task.deep
            and number % task.deep == 0
            and outcome.accepted
            and task.kind == "problem"
            and is_small(answer.result)
        ):
            outcome.deep = True
            outcome.faults += self.look_deeper(integrate=number % (10 * task.deep) == 0)
        expected = {file for file in FILES.values() if file == FILES[task.kind] and file}
        if strangers := set(os.listdir(".")) - expected:
            outcome.faults.append(f"left behind: {sorted(strangers)}")
        if outcome.faults:
            outcome.content = content
        return outcome

    def look_deeper(self, integrate: bool) -> list[str]:
        """The faults of the real derivation and, if wanted, of a short integration.

        Each must succeed or be refused like any wrong input.
        """
        import annealvi.session.session

        commands = [["derive", "case.toml"]]
        if integrate:
            commands.append(
                ["integrate", "case.toml", "--n", "2", "--points", "2", "--t-end", "0.1", "--device", "cpu"]
            )
        stopped, faults = annealvi.session.session.open_session, []
        annealvi.session.session.open_session = self.open_session
        for command in commands:
            answer = ask(command, DEEP_SECONDS)
            faults += answer.faults
            if not answer.faults and answer.status != 0:
                faults += faults_of_refusal(answer, ("case.toml", "--"))
        annealvi.session.session.open_session = stopped
        return [f"{fault} (derived or integrated)" for fault in faults]


def is_small(problem: Any) -> bool:
    return max(len(problem.target.weights), len(problem.proposal.weights)) <= 2 and problem.target.coordinates <= 2


def work(task: Task) -> None:
    """Examine the cases in the working directory, and write one line of JSON for each."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    faulthandler.register(signal.SIGPROF, chain=True)  # print the traceback, then end the process
    examiner = Examiner(task)
    for number in range(task.first, task.stop):
        outcome = asdict(examiner.examine(number))
        outcome["content"] = outcome["content"].hex()
        report.write(json.dumps(outcome) + "\n")
        report.flush()


# Runs in the parent


def examined(task: Task) -> Iterator[Outcome]:
    """The outcome of every case of a task.

    A worker that ends early has met a case that hangs or crashes; a new worker goes on after that case.
    """
    first = task.first
    while first < task.stop:
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        ):
            rest = json.dumps({**asdict(task), "first": first})
            place = Path(folder) / "work"
            place.mkdir()
            worker = subprocess.Popen(
                [sys.executable, __file__, "--worker", rest],
                cwd=place,
                env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": folder},
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                encoding="utf-8",
            )
            begun = first
            with worker:
                for line in worker.stdout or ():
                    outcome = Outcome(**json.loads(line))
                    outcome.content = bytes.fromhex(str(outcome.content))
                    first = outcome.number + 1
                    yield outcome
            if first < task.stop:
                complaints.seek(0)
                said = complaints.read()
                late = worker.returncode == -signal.SIGPROF or "Timeout (" in said
                if first == begun and not late and worker.returncode >= 0:
                    raise RuntimeError(f"a worker does not start: {said}")
                what = "it takes too long" if late else f"it ends Python with status {worker.returncode}"
                yield Outcome(first, faults=[f"{what}: {said[:3000]}"], content=generator(task.kind)(task.seed, first))
                first += 1


@dataclass
class Summary:
    """Counts of a run; `messages` counts the refusals, each without what is particular to its case."""

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    deep: int = 0
    slowest: float = 0.0
    slowest_number: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.cases += 1
        self.accepted += outcome.accepted and not outcome.faults
        self.refused += not outcome.accepted and not outcome.faults
        self.deep += outcome.deep
        if outcome.seconds > self.slowest:
            self.slowest, self.slowest_number = outcome.seconds, outcome.number
        if outcome.line:
            self.messages[normalised(outcome.line)] += 1
        if outcome.faults:
            self.failures.append(outcome)

    def __str__(self) -> str:
        share = self.accepted / max(1, self.cases)
        return (
            f"{self.cases} cases: {self.accepted} accepted ({share:.0%}), {self.refused} refused, "
            f"{len(self.messages)} distinct refusals, {self.deep} derived, slowest {self.slowest:.2f} s "
            f"(case {self.slowest_number}), "
            f"{len(self.failures)} failures"
        )


def normalised(line: str) -> str:
    """A refusal without numbers, values and unknown names."""
    line = re.sub(r"^annealvi: (?:case\.\w+: )?(?:--set [^:]*)?", "", line)
    line = re.sub(r"^.*?(an unknown (?:section|key)|unknown key|sets nothing)", r"\1", line)
    line = re.sub(r"did you mean .*", "did you mean", line)
    line = re.sub(r"""\[\d+\]|"[^"]*"|'[^']*'|\([^()]*\)""", "", line)
    line = re.sub(r": .* (is not|is unknown|cannot serve)", r": \1", line)
    return re.sub(r"[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|\binf\b|\bnan\b)", "#", line)


def run(task: Task, jobs: int = 1, tell: Callable[[Summary, Outcome], None] = lambda *_: None) -> Summary:
    """Examine all cases of a task, in `jobs` processes at a time.

    `tell` is called after each case with the summary so far and the outcome of the case.
    """
    summary, alone = Summary(), Lock()
    firsts = range(task.first, task.stop, CASES_OF_A_WORKER)
    parts = [replace(task, first=first, stop=min(first + CASES_OF_A_WORKER, task.stop)) for first in firsts]

    def finish(part: Task) -> None:
        for outcome in examined(part):
            with alone:
                summary.add(outcome)
                tell(summary, outcome)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(finish, parts))
    return summary


def keep(outcome: Outcome, task: Task, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task.kind}-{task.seed}-{outcome.number}"
    path.write_bytes(outcome.content)
    path.with_suffix(".txt").write_text("\n".join(outcome.faults), encoding="utf-8")
    return path


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat one")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=FILES, default="problem")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that reading may take (default: 5)")
    parser.add_argument(
        "--deep",
        type=int,
        default=50,
        help="derive what is accepted of the cases that this divides, 0 for none (default: 50)",
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for the files that fail")
    parser.add_argument("--messages", action="store_true", help="print the distinct refusals")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if options.worker:
        work(Task(**json.loads(options.worker)))
        return 0
    task = Task(options.kind, options.seed, options.first, options.first + options.cases, options.seconds, options.deep)
    begun = time.perf_counter()

    def tell(so_far: Summary, outcome: Outcome) -> None:
        if outcome.faults:
            print(f"failed: {keep(outcome, task, options.keep)}: {outcome.faults[0][:200]}", flush=True)
        if so_far.cases % 1000 == 0:
            print(f"{time.perf_counter() - begun:6.0f} s  {so_far}", flush=True)

    summary = run(task, options.jobs, tell)
    if options.messages:
        for message, count in summary.messages.most_common():
            print(f"{count:7} {message}")
    print(summary)
    return int(bool(summary.failures))


if __name__ == "__main__":
    sys.exit(main())
