"""Runs commands one after another in processes of their own, so that a crash of one cannot take the study down.

A task is held by a lock that its running command holds too. So of several studies in one folder each takes what no other is at,
and after a study was killed the next one waits until the command that it left behind has saved its work and ended.
"""

import collections
import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import time

from tfvae.command import write_whole

POLL_SECONDS = 0.5
STATUS_SECONDS = 60.0
RECORD_SECONDS = 5.0
# A training that diverged does so again.
NO_USE_TO_REPEAT = "training diverged"
PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when its parent ends


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: what it does. done: function without arguments: whether its result is there. arguments: program and arguments.
    """

    name: str
    done: object
    arguments: list


@dataclasses.dataclass(frozen=True)
class Task:
    """Steps that follow on each other.

    Attributes:
        name: of its log, record and lock. steps: function without arguments that gives them: what they write may depend on
            what the tasks before have made. blocked: function without arguments: why it cannot be done, or None.
    """

    name: str
    steps: object
    blocked: object = lambda: None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; negative: the signal that ended it.
        seconds: wall time. peak_memory_mb: largest resident memory of the process.
        error: its last error line; "" where it ended well.
    """

    code: int
    seconds: float
    peak_memory_mb: float
    error: str


class Runner:
    """Does tasks, and ends the running command when told to stop.

    Args:
        places: where everything lies, such as `plan.Study`: `locks_dir`, `log_file(task)` and `record_file(task)`.
        say: function of (number of the task, `Task`, `Step` or None, seconds in it, line) that tells how it goes.
    """

    def __init__(self, places, say):
        self.places, self.say, self.process, self.signals = places, say, None, 0

    @property
    def stopping(self):
        return self.signals > 0

    @contextlib.contextmanager
    def listening(self):
        """SIGINT and SIGTERM: the running command gets one SIGTERM, on which training saves; a second one kills it."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number, frame):
        self.signals += 1
        self._tell(signal.SIGTERM if self.signals == 1 else signal.SIGKILL)

    def _tell(self, number):
        # Not Popen's own: it may take away the exit status that `run` waits for.
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    @contextlib.contextmanager
    def lock(self, task):
        """Yields the lock's file descriptor, or None where another process holds the task."""
        self.places.locks_dir.mkdir(parents=True, exist_ok=True)
        with open(self.places.locks_dir / f"{task}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield file.fileno()

    def work_off(self, tasks):
        """Does all steps that are not done yet; goes on past tasks that fail, comes back to those that others hold.

        Returns:
            {task's name: line} of those that failed. Where `stopping`, not everything was tried.
        """
        queue, failed, refused, told = collections.deque(enumerate(tasks, 1)), {}, 0, set()
        while queue and not self.stopping:
            if refused == len(queue):
                time.sleep(10 * POLL_SECONDS)
                refused = 0
            number, task = queue.popleft()
            with self.lock(task.name) as lock:
                if lock is None:
                    if task.name not in told:
                        self.say(number, task, None, 0, "another process is at it: later")
                    told.add(task.name)
                    queue.append((number, task))
                    refused += 1
                    continue
                refused = 0
                line = self._do(number, task, lock)
                if line:
                    failed[task.name] = line
                    self.say(number, task, None, 0, f"FAILED: {line}")
        return failed

    def _do(self, number, task, lock):
        """Does a task's steps; the line that says why one failed, or None."""
        file = self.places.record_file(task.name)
        line = task.blocked()
        if line:
            return note(file, "extractor", line)
        line = read_record(file).get("failed", {}).get("line", "")
        if NO_USE_TO_REPEAT in line:
            return f"{line} (as before; to try again, delete {file})"
        for step in task.steps():
            if step.done():
                continue
            self.say(number, task, step, 0, "begins")
            outcome = self._run_step(number, task, step, lock)
            if step.done():
                continue
            if self.stopping:
                return None
            line = outcome.error or f"it ended well, but its result is not there; see {self.places.log_file(task.name)}"
            return note(file, step.name, line)
        self.say(number, task, None, 0, "done")
        return None

    def _run_step(self, number, task, step, lock):
        """`run`, and what it cost in the task's record: time and memory of all attempts together."""
        file = self.places.record_file(task.name)
        record = read_record(file)
        before = record["seconds"].get(step.name, 0.0)
        saved = 0.0

        def on_poll(seconds, newest):
            nonlocal saved
            # Now and then: what a killed study spent counts too.
            if seconds - saved >= RECORD_SECONDS:
                saved = seconds
                record["seconds"][step.name] = before + seconds
                write_record(file, record)
            self.say(number, task, step, seconds, newest)

        outcome = self.run(step.arguments, self.places.log_file(task.name), lock, on_poll)
        record["seconds"][step.name] = before + outcome.seconds
        record["peak_memory_mb"][step.name] = max(outcome.peak_memory_mb, record["peak_memory_mb"].get(step.name, 0.0))
        record.pop("failed", None)
        write_record(file, record)
        return outcome

    def run(self, arguments, log_file, lock, on_poll):
        """Runs a command to its end.

        Args:
            arguments: program and arguments. log_file: `pathlib.Path` to which its output is appended.
            lock: file descriptor of its task's lock, which the command holds as long as it lives.
            on_poll: called with the seconds so far and the newest line of its output, about twice a second.

        Returns:
            `Outcome`.
        """
        log_file.parent.mkdir(parents=True, exist_ok=True)
        started, parent = time.monotonic(), os.getpid()
        libc = ctypes.CDLL(None, use_errno=True)

        def end_with_parent():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)  # it ended before the line above

        with log_file.open("ab") as log:
            start = log.tell()
            # A session of its own: Ctrl-C in the terminal reaches the study alone, which passes it on once. Twice would make
            # training leave without saving.
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
                preexec_fn=end_with_parent,
            )
        if self.stopping:
            self._tell(signal.SIGTERM)  # told to between the last look and now
        while True:
            # And not Popen.wait: the process' own peak memory comes with this.
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            seconds = time.monotonic() - started
            if pid:
                break
            on_poll(seconds, _last_line(log_file, start))
            time.sleep(POLL_SECONDS)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        error = error_line(log_file.read_bytes()[start:].decode(errors="replace"), code) if code else ""
        return Outcome(code, seconds, usage.ru_maxrss / 1e3, error)  # kB on Linux


def _last_line(log_file, start):
    with log_file.open("rb") as log:
        log.seek(0, os.SEEK_END)
        first = max(start, log.tell() - 4000)
        log.seek(first)
        text = log.read().decode(errors="replace")
    if first > start:  # in the middle of a line, whose beginning tells whose it is
        text = re.split(r"[\r\n]", text, maxsplit=1)[-1]
    lines = _lines(text)
    return lines[-1] if lines else ""


def _lines(output):
    """What a command said: without empty lines and TensorFlow's own notes."""
    lines = (line.strip() for line in re.split(r"[\r\n]+", output))
    return [line for line in lines if line and not re.match(r"[IWE]\d{4} \d\d:|WARNING: All log messages before", line)]


def error_line(output, code):
    """The line of a failed command's output that says why."""
    lines = _lines(output)
    ends = [line for line in lines if line.startswith("error: ")]
    ends = ends or [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)] or lines
    said = ends[-1].removeprefix("error: ")[:400] if ends else "it said nothing"
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"ended by {name}{hint}; its last line: {said}"
    return said


# What is known of a task beside its results.


def read_record(file):
    """{"seconds": {step: wall seconds}, "peak_memory_mb": {step: }, "failed": {"step", "line"} or absent}."""
    try:
        return {"seconds": {}, "peak_memory_mb": {}} | json.loads(file.read_text())
    except (OSError, ValueError):
        return {"seconds": {}, "peak_memory_mb": {}}


def note(file, step, line):
    """Keeps why a task failed; returns the line."""
    write_record(file, read_record(file) | {"failed": {"step": step, "line": line}})
    return line


def write_record(file, record):
    write_whole(file, json.dumps(record, indent=1) + "\n")
