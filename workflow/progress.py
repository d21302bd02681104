"""What a run on this machine shows: one line of progress on a terminal, a line now and then elsewhere, and what failed.

`show_progress` puts it in place of Snakemake's own lines, which go to their file under .snakemake/log all the same. Those stay
where they are asked for (-n, --quiet, --verbose, --printshellcmds, --logger), and on a cluster, whose job numbers they hold.
"""

import logging
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

CLEAR = "\r\033[K"  # the line that the cursor is in
SNAKEMAKES_LOGGER, SNAKEMAKES_HANDLER = logging.getLogger("snakemake.logging"), "DefaultStreamHandler"
FAILED_COMMAND = "\nCalledProcessError in file"  # Snakemake's words on a failed job, which has lines of its own here
LAST_LINES = 15  # of a failed job's log
TICK = 1.0  # seconds between two looks at the clock
# Seconds between two lines where there is no terminal: a twentieth of the time so far, but at least and at most.
SHORTEST, LONGEST = 30.0, 600.0


def show_progress(workflow: Any, row: str = "method", logger: logging.Logger = SNAKEMAKES_LOGGER) -> None:
    """Show this process's run; `row` is the wildcard by which jobs belong to a row."""
    own = next((handler for handler in logger.handlers if handler.name == SNAKEMAKES_HANDLER), None)
    if own is None or not workflow.is_main_process:
        return
    options = ("dryrun", "verbose", "printshellcmds", "debug_dag", "quiet")
    if any(getattr(asked, option, None) for asked in own.filters for option in options):
        return
    logger.removeHandler(own)
    logger.addHandler(Progress(logger, own, row, lambda: rows_of(workflow.dag.needrun_jobs(), row)))


def rows_of(jobs: Iterable[Any], row: str) -> Counter[str]:
    """How many of the jobs each row has."""
    return Counter(job.wildcards_dict[row] for job in jobs if row in job.wildcards_dict)


@dataclass(frozen=True)
class Job:
    """A job that runs: its rule, wildcards and row, when it began, and whether it answers on the terminal."""

    rule: str
    wildcards: dict[str, str]
    row: str | None
    began: float
    answers: bool

    def __str__(self) -> str:
        return " ".join([self.rule, *self.wildcards.values()])


class Tally:
    """What has been done, what is left, and how long that will take."""

    def __init__(self, jobs: Counter[str], rows: Counter[str], now: float) -> None:
        self.left, self.rows_left, self.total, self.began = +jobs, +rows, jobs.total(), now
        self.rows = dict(self.rows_left)
        self.running: dict[int, Job] = {}
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.done = 0

    def finish(self, number: int, now: float) -> str | None:
        """Count a job as done; returns the row that it was the last of."""
        if not (job := self.running.pop(number, None)):
            return None
        self.done += 1
        self.left[job.rule] -= 1
        self.seconds[job.rule].append(now - job.began)
        if job.row is None:
            return None
        self.rows_left[job.row] -= 1
        return None if self.rows_left[job.row] else job.row

    def seconds_left(self, now: float) -> float | None:
        """What is left, at the mean time of each rule's jobs and with as many at a time as so far.

        A rule of which no job is done is taken for a middling one. None while most of the jobs are yet to be done and most of
        those are of such rules.
        """
        means = {rule: sum(seconds) / len(seconds) for rule, seconds in self.seconds.items()}
        left = sum(self.left.values())
        known = sum(count for rule, count in self.left.items() if rule in means)
        if not means or (2 * known < left and 2 * self.done < self.total):
            return None
        middling = median(means.values())
        ahead = sum(count * means.get(rule, middling) for rule, count in self.left.items())
        under_way = [(now - job.began, means.get(job.rule, middling)) for job in self.running.values()]
        spent = sum(map(sum, self.seconds.values())) + sum(since for since, _ in under_way)
        at_a_time = spent / max(now - self.began, 1e-9)
        return max(0.0, ahead - sum(min(pair) for pair in under_way)) / max(at_a_time, 1e-9)

    def line(self, now: float) -> str:
        """Jobs, time, rows and what runs, most telling first."""
        left = self.seconds_left(now)
        words = [f"{self.done} of {self.total} jobs", clock(now - self.began)]
        words += [] if left is None else [f"about {clock(left)} left"]
        if self.rows:
            begun = {job.row for job in self.running.values() if job.row}
            within = [f"{row} {self.rows[row] - self.rows_left[row]}/{self.rows[row]}" for row in sorted(begun)]
            over = sum(not count for count in self.rows_left.values())
            words.append(", ".join([f"{over} of {len(self.rows)} rows", *within]))
        words += [", ".join(map(str, self.running.values()))] * bool(self.running)
        return " | ".join(words)


class Progress(logging.Handler):
    """Writes where Snakemake's `own` handler would. `rows` counts each row's jobs once the run begins; `row` is the wildcard
    that names a job's row."""

    def __init__(self, logger: logging.Logger, own: Any, row: str, rows: Callable[[], Counter[str]]) -> None:
        super().__init__()
        self.logger, self.own, self.row, self.rows = logger, own, row, rows
        isatty = getattr(own.stream, "isatty", None)
        self.on_terminal = bool(isatty and isatty())
        self.held: list[logging.LogRecord] = []
        self.on_cluster = False
        self.tally: Tally | None = None
        self.failed: dict[int, Job] = {}
        self.ended = threading.Event()
        self.written, self.log = 0.0, ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record of Snakemake's log, or take note of it; a fault in here must not end the run."""
        try:
            self._show(getattr(record, "event", None), record)
        except Exception:
            self.handleError(record)

    def _show(self, event: LogEvent | None, record: Any) -> None:
        if self.on_cluster:
            self.own.handle(record)
        elif self.tally is None:
            self._before(event, record)
        elif event is LogEvent.JOB_INFO:
            self._start(self.tally, record)
        elif event is LogEvent.JOB_FINISHED:
            self._finish(self.tally, record)
        elif event is LogEvent.JOB_ERROR:
            self._fail(self.tally, record)
        elif record.levelno >= logging.WARNING and FAILED_COMMAND not in record.getMessage():
            self._write(self.own.format(record))
        if self.tally and self.on_terminal:
            self._status(self.tally)

    def _before(self, event: LogEvent | None, record: Any) -> None:
        """Until the first job: Snakemake's words pass, its tables wait until it is known where the run runs."""
        if event is LogEvent.RUN_INFO:
            self._begin(Counter({rule: count for rule, count in record.stats.items() if rule != "total"}))
        elif event is LogEvent.RESOURCES_INFO and hasattr(record, "nodes"):
            self.on_cluster = True
            for held in (*self.held, record):
                self.own.handle(held)
        elif event in (LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO):
            self.held.append(record)
        else:
            self.own.handle(record)

    def _begin(self, jobs: Counter[str]) -> None:
        files = [handler.baseFilename for handler in self.logger.handlers if isinstance(handler, logging.FileHandler)]
        self.log = f"Snakemake's log: {', '.join(files) or 'none'}"
        self.tally = Tally(jobs, self.rows(), time.monotonic())
        self._write(f"{self.tally.total} jobs; {self.log}")
        threading.Thread(target=self._watch, daemon=True).start()

    def _start(self, tally: Tally, record: Any) -> None:
        wildcards = dict(record.wildcards)
        job = Job(record.rule_name, wildcards, wildcards.get(self.row), time.monotonic(), not record.output)
        tally.running[record.jobid] = job
        self.failed.pop(record.jobid, None)
        if job.answers and self.on_terminal:
            self.own.stream.write(CLEAR)
            self.own.stream.flush()

    def _finish(self, tally: Tally, record: Any) -> None:
        if row := tally.finish(record.job_id, time.monotonic()):
            self._write(f"{row}: done ({tally.rows[row]} jobs) | {tally.line(time.monotonic())}")

    def _fail(self, tally: Tally, record: Any) -> None:
        job = tally.running.pop(record.jobid, None)
        if job is None:  # told twice, or never started
            return
        self.failed[record.jobid] = job
        why = f" ({record.rule_msg})" if record.rule_msg else ""
        self._write(f"failed after {clock(time.monotonic() - job.began)}: {job}{why}")
        for log in record.log:
            self._write("\n".join([f"  its log ends ({log}):", *(f"    {line}" for line in last_lines(Path(log)))]))
        if not record.log:
            self._write(f"  it has no log; its command: {record.shellcmd}")

    def close(self) -> None:
        """Say how the run ended."""
        self.ended.set()
        if tally := self.tally:
            took = f"{tally.done} of {tally.total} jobs in {clock(time.monotonic() - tally.began)}"
            failed = "; ".join(map(str, self.failed.values()))
            self._write(f"{took}; {f'failed: {failed}; ' * bool(failed)}{self.log}")
            self.tally = None
        super().close()

    def _watch(self) -> None:
        """Keep the line on a terminal up to date; elsewhere, write one now and then."""
        while not self.ended.wait(TICK):
            self.acquire()
            try:
                if self.tally:
                    self._tick(self.tally, time.monotonic())
            finally:
                self.release()

    def _tick(self, tally: Tally, now: float) -> None:
        if self.on_terminal:
            self._status(tally)
        elif now - self.written >= min(max(SHORTEST, (now - tally.began) / 20), LONGEST):
            self._write(tally.line(now))

    def _write(self, text: str) -> None:
        """Lines that stay."""
        self.own.stream.write(f"{CLEAR * self.on_terminal}{text}\n")
        self.own.stream.flush()
        self.written = time.monotonic()

    def _status(self, tally: Tally) -> None:
        """The line that does not stay; none while a job answers on the same terminal."""
        if not any(job.answers for job in tally.running.values()):
            line = tally.line(time.monotonic())[: shutil.get_terminal_size().columns - 1]
            self.own.stream.write(f"{CLEAR}{line}")
            self.own.stream.flush()


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def last_lines(log: Path) -> list[str]:
    """What a log ends with; of a progress bar's states the last."""
    try:
        lines = log.read_bytes().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    return [line for line in shown if line.strip()][-LAST_LINES:] or ["nothing"]
