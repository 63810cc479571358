"""A command that prints nothing for some time reports its stage."""

import time

import pytest

from annealvi.cli import console, program
from annealvi.cli.console import telling_stages
from annealvi.cli.program import main
from kernels.machine.stages import is_spoken_for, now, spoken_for, stage


def heard(capsys, seconds=0.3):
    time.sleep(seconds)
    return capsys.readouterr().err.splitlines()


def test_each_stage_is_told_once_in_a_line_of_its_own(monkeypatch, capsys):
    monkeypatch.setattr(console, "SILENCE", 0.02)
    with telling_stages("integrate"):
        assert heard(capsys) == ["integrate: computing …"]
        for _ in range(2):
            with stage("deriving the equations"):
                said = heard(capsys)
            assert said == (["integrate: deriving the equations …"] if _ == 0 else [])
        with stage("estimating the cost"), stage("compiling the kernels"):
            assert heard(capsys) == ["integrate: compiling the kernels …"]
        with spoken_for(), stage("what a bar tells"):
            assert is_spoken_for()
            assert now() == "what a bar tells"
            assert heard(capsys) == []
        assert heard(capsys) == []
    assert now() == ""


def test_nothing_is_told_of_what_is_brief_or_over(monkeypatch, capsys):
    monkeypatch.setattr(console, "SILENCE", 0.2)
    with telling_stages("integrate"), stage("deriving the equations"):
        pass
    assert heard(capsys, 0.5) == []


@pytest.mark.parametrize(
    ("arguments", "tells"), [(["derive"], True), (["verify"], True), (["verify", "--quiet"], False)]
)
def test_a_process_of_its_own_tells_its_stages(arguments, tells, monkeypatch, capsys):
    """A command called from Python reports no stages, nor does a command with --quiet."""
    monkeypatch.setattr(console, "SILENCE", 0.02)
    monkeypatch.setattr(f"annealvi.cli.commands.{arguments[0]}.run", lambda _: time.sleep(0.3) or 0)
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(program.sys, "argv", ["annealvi", *arguments])
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    assert main() == 0
    assert capsys.readouterr().err == (f"{arguments[0]}: computing …\n" if tells else "")
