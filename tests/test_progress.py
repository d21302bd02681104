"""What a run shows: real runs of a tiny workflow that succeed and fail, and the arithmetic of what is left."""

import io
import logging
import os
import pty
import re
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from tests.dag import ROOT, command, environment
from workflow.progress import CLEAR, Job, Progress, Tally, clock, last_lines, show_progress

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from workflow.progress import show_progress
show_progress(workflow)

rule all:
    input: expand("{{method}}/{{n}}.txt", method=["one", "two"], n=range(3))

rule sample:
    output: "{{method}}/{{n}}.txt"
    log: "logs/{{method}}-{{n}}.log"
    params: broken=config.get("broken", "none")
    shell:
        "(test {{wildcards.method}}-{{wildcards.n}} != {{params.broken}} || (echo error: it is broken; exit 1)"
        " && echo x > {{output}}) > {{log}} 2>&1"

rule answer:
    shell: "echo first; echo second"
"""


def start(folder: Path, *arguments: str, **streams) -> subprocess.Popen:
    (folder / "Snakefile").write_text(SNAKEFILE)
    place = {"cwd": folder, "env": environment() | {"COLUMNS": "100"}}
    return subprocess.Popen(command(*arguments), text=True, **place, **streams)


def said(folder: Path, *arguments: str) -> tuple[str, int]:
    """What a run writes where there is no terminal, and its status."""
    run = start(folder, *arguments, stderr=subprocess.PIPE)
    return run.communicate(timeout=300)[1], run.returncode


def shown(folder: Path, *arguments: str) -> tuple[str, int]:
    """The same, on a terminal."""
    master, slave = pty.openpty()
    run = start(folder, *arguments, stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    while part := _read(master):
        text += part
    os.close(master)
    return text.decode().replace("\r\n", "\n"), run.wait()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_run_that_succeeds_is_a_few_lines_and_its_log_whole(tmp_path) -> None:
    text, status = said(tmp_path)
    assert status == 0, text
    lines = text.splitlines()
    assert len(lines) < 12
    (begun,) = re.findall(r"^7 jobs; Snakemake's log: (\S+)$", text, re.M)
    assert "Finished jobid" in Path(begun).read_text() and "Job stats" in Path(begun).read_text()
    assert {line.split(" | ")[0] for line in lines if ": done" in line} == {"one: done (3 jobs)", "two: done (3 jobs)"}
    assert re.match(rf"7 of 7 jobs in 0:\d\d; Snakemake's log: {begun}$", lines[-1])
    assert CLEAR not in text
    again, status = said(tmp_path)
    assert status == 0 and "Nothing to be done" in again


def test_a_run_that_fails_shows_the_end_of_the_failed_jobs_log_and_goes_on(tmp_path) -> None:
    text, status = said(tmp_path, "--config", "broken=two-1", "--keep-going")
    assert status == 1
    assert re.search(r"^failed after 0:\d\d: sample two 1$", text, re.M)
    assert "  its log ends (logs/two-1.log):\n    error: it is broken\n" in text
    assert "one: done (3 jobs)" in text and "two: done" not in text
    assert re.match(r"5 of 7 jobs in 0:\d\d; failed: sample two 1; Snakemake's log: /", text.splitlines()[-1])
    assert len(text.splitlines()) < 20 and "Traceback" not in text and "CalledProcessError" not in text


def test_a_terminal_shows_one_line_that_stays_up_to_date_and_a_rules_own_answer(tmp_path) -> None:
    text, status = shown(tmp_path, "all", "answer")
    assert status == 0, text
    assert re.search(re.escape(CLEAR) + r"\d of 8 jobs \| 0:\d\d", text)
    assert max(map(len, re.split(r"\n|" + re.escape(CLEAR), text))) < 200
    assert f"{CLEAR}first" in text or "\nfirst\nsecond" in text


@pytest.mark.parametrize("asked", ["--dry-run", "--verbose", "--printshellcmds", "--quiet"])
def test_where_snakemakes_own_lines_are_asked_for_they_stay(asked) -> None:
    options = {name: name.replace("_", "-") in asked for name in ("verbose", "printshellcmds", "quiet")}
    logger, own = logging.getLogger(f"test {asked}"), logging.StreamHandler(io.StringIO())
    own.name = "DefaultStreamHandler"
    own.addFilter(SimpleNamespace(filter=lambda record: True, dryrun=asked == "--dry-run", debug_dag=False, **options))
    logger.addHandler(own)
    show_progress(SimpleNamespace(is_main_process=True), logger=logger)
    assert logger.handlers == [own]


def record(event: LogEvent | None, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    found = logging.LogRecord("snakemake", level, "", 0, f"{event}", (), None)
    found.__dict__.update(more | ({"event": event} if event else {}))
    return found


def test_on_a_cluster_snakemakes_own_lines_go_on_from_the_first() -> None:
    logger, own = logging.Logger("cluster"), logging.StreamHandler(io.StringIO())
    display = Progress(logger, own, "method", Counter)
    logger.addHandler(display)
    for one in (
        record(None),
        record(LogEvent.WORKFLOW_STARTED),
        record(LogEvent.RESOURCES_INFO, nodes=100),
        record(LogEvent.RUN_INFO, stats={"sample": 2, "total": 2}),
        record(LogEvent.JOB_INFO),
    ):
        logger.handle(one)
    assert own.stream.getvalue().split() == ["None", "workflow_started", "resources_info", "run_info", "job_info"]


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    display = Progress(logging.Logger("plain"), logging.StreamHandler(io.StringIO()), "method", Counter)
    tally = Tally(Counter(sample=4), Counter(), now=0.0)
    display.written = 0.0
    for now in (29.0, 31.0):
        display._tick(tally, now)
    assert display.own.stream.getvalue() == "0 of 4 jobs | 0:31\n"
    # After an hour, every three minutes.
    display.written = 3600.0
    for now in (3600.0 + 170, 3600.0 + 200):
        display._tick(tally, now)
    assert display.own.stream.getvalue().splitlines()[1:] == ["0 of 4 jobs | 1:03:20"]


def test_a_fault_of_the_display_does_not_end_the_run(capsys) -> None:
    logger, own = logging.Logger("fault"), logging.StreamHandler(io.StringIO())
    display = Progress(logger, own, "method", lambda: 1 / 0)
    display.emit(record(LogEvent.RUN_INFO, stats={"sample": 2, "total": 2}))
    assert "ZeroDivisionError" in capsys.readouterr().err


def job(rule: str, row: str | None, began: float) -> Job:
    return Job(rule, {"method": row} if row else {}, row, began, answers=False)


def test_the_time_left_follows_each_rules_mean_and_how_many_run_at_a_time() -> None:
    tally = Tally(Counter(sample=4, train=1), Counter(one=2, two=2), now=0.0)
    assert tally.seconds_left(5.0) is None
    tally.running = {1: job("sample", "one", 0.0), 2: job("sample", "two", 0.0)}
    assert tally.finish(1, 10.0) is None
    # Three samples and the training, of which nothing is known but the samples' mean: 40 s, less 10 done, two at a time.
    assert tally.seconds_left(10.0) == pytest.approx((4 * 10 - 10) / 2)
    tally.running[3] = job("sample", "one", 10.0)
    assert tally.finish(3, 20.0) == "one"
    assert tally.line(20.0).startswith("2 of 5 jobs | 0:20 | about 0:10 left | 1 of 2 rows, two 0/2 | sample two")
    assert tally.finish(99, 20.0) is None and tally.done == 2


def test_nothing_is_told_of_rules_of_which_no_job_is_done() -> None:
    tally = Tally(Counter(small=1, large=9), Counter(), now=0.0)
    tally.running = {1: job("small", None, 0.0)}
    tally.finish(1, 1.0)
    assert tally.seconds_left(1.0) is None and "about" not in tally.line(1.0)


def test_of_a_progress_bar_in_a_log_the_last_state_is_shown(tmp_path) -> None:
    log = tmp_path / "a.log"
    log.write_text("\n".join([*map(str, range(30)), " 1%\r 50%\r100%", "error: no", ""]))
    assert last_lines(log)[-3:] == ["29", "100%", "error: no"] and len(last_lines(log)) == 15
    assert last_lines(tmp_path / "none.log") == ["cannot be read: No such file or directory"]
    (tmp_path / "empty.log").touch()
    assert last_lines(tmp_path / "empty.log") == ["nothing"]


def test_times_are_read_as_on_a_clock() -> None:
    assert [clock(seconds) for seconds in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]
