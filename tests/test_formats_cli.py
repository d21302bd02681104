"""How programs end: one line and a status, whatever was wrong; and how they read options."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from formats.cli import integer_from, options, run
from formats.files import InputError

ROOT = Path(__file__).parents[1]


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (InputError("a.json: not JSON"), "error: a.json: not JSON", 1),
        (FileNotFoundError(2, "No such file or directory", "b.json"), "error: b.json: No such file or directory", 1),
        (OSError(28, "No space left on device"), "error: writing: No space left on device", 1),
        (OSError("told otherwise"), "error: writing: told otherwise", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_bad_input_is_one_line_and_a_status(capsys, error, line, status) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda: raising(error))
    assert end.value.code == status
    assert capsys.readouterr().err == f"{line}\n"


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: raising(ZeroDivisionError()))


def test_ctrl_c_is_no_traceback() -> None:
    # A job in the background of a shell is born deaf to SIGINT, and with it what it starts.
    heard = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heard + "from formats.cli import run; run(lambda: print('up', flush=True) or time.sleep(60))"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None and program.stdout.readline() == "up\n"
        os.kill(program.pid, signal.SIGINT)
        assert program.communicate(timeout=60) == ("", "interrupted\n")
    assert program.returncode == 130


def test_help_is_the_docstring_and_options_are_written_out(capsys) -> None:
    parser = options("What it does.\n\n    an example\n")
    parser.add_argument("--number", type=integer_from(2))
    assert "What it does.\n\n    an example\n" in parser.format_help()
    assert parser.parse_args(["--number", "2"]) == argparse.Namespace(number=2)
    for words in (["--num", "2"], ["--number", "1"], ["--number", "2.0"], ["--number", "1234567890"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
    assert "expected an integer from 2 on, found '2.0'" in capsys.readouterr().err
