"""Runs commands one after another, each in a process of its own, so that a crash of one does not end the study.

While a command runs, it holds the lock of its task, as the study does that started it. So two studies on one machine never do one
task of one folder at once. And where a study was killed, the command that it left behind saves its work and ends, and until then
the next study leaves that task alone. The locks are one machine's. Across machines a scheduler gives each task to one of them.
"""

import collections
import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time

from tfvae.command import write_whole

POLL_SECONDS = 0.1
RECORD_SECONDS = 5.0
FAILED = "FAILED"
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


class Blocked(Exception):
    """Why the next step of a task cannot be done now: one line."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Steps that follow on each other.

    Attributes:
        name: for people, and of its lock. steps: function without arguments that yields them one by one, for a step may depend
            on what the ones before it have made; it raises `Blocked`.
        needs: names of the tasks that come first. files: function without arguments: the name of its log and its record, which
            may depend on what those tasks have made; None: as `name`.
    """

    name: str
    steps: object
    needs: tuple = ()
    files: object = None

    @property
    def file_name(self):
        return self.files() if self.files else self.name

    def is_done(self):
        try:
            return all(step.done() for step in self.steps())
        except Blocked:
            return False


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


@contextlib.contextmanager
def lock(folder, name):
    """Yields the file descriptor of a lock of this machine, or None where another process holds it.

    It is free again when every process that has the descriptor has ended.

    Args:
        folder: `pathlib.Path`, made if absent. name: of the lock; others in the same folder are independent of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.stat()
    key = hashlib.sha256(f"{place.st_dev} {place.st_ino} {name}".encode()).hexdigest()
    with socket.socket(socket.AF_UNIX) as holder:
        try:
            # Linux' abstract names: nothing is on the disk, which may be shared by machines or know no locks.
            holder.bind(f"\0tfvae-study-{key}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            yield None
        else:
            yield holder.fileno()


class Runner:
    """Does tasks, and ends the running command when told to stop.

    Args:
        places: where everything lies, such as `plan.Study`: `output_dir`, `log_file(name)` and `record_file(name)`.
        say: function of (number of the task, `Task`, `Step` or None, seconds in it, line) that reports progress.
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

    def work_off(self, tasks):
        """Does all steps that are not done yet. Passes over tasks that fail, and comes back to those of another process.

        Returns:
            {task's name: line} of those that failed. Where `stopping`, not everything was tried.
        """
        queue, failed, said = collections.deque(enumerate(tasks, 1)), {}, set()
        while queue and not self.stopping:
            number, task = queue.popleft()
            if {other.name for _, other in queue} & set(task.needs):
                queue.append((number, task))
                continue
            with lock(self.places.output_dir, task.name) as held:
                line = None if held is None else self._do(number, task, held)
            if held is None:
                if task.name not in said:
                    self.say(number, task, None, 0, "another process is at it: later")
                said.add(task.name)
                queue.append((number, task))
                time.sleep(POLL_SECONDS)
            elif line:
                failed[task.name] = line
                self.say(number, task, None, 0, f"{FAILED}: {line}")
        return failed

    def _do(self, number, task, held):
        """Does a task's steps; the line that says why one cannot be done or failed, or None."""
        log, file = (place(task.file_name) for place in (self.places.log_file, self.places.record_file))
        line = read_record(file).get("failed", {}).get("line", "")
        if NO_USE_TO_REPEAT in line:
            return f"{line} (as before; to try again, delete {file})"
        try:
            for step in task.steps():
                if step.done():
                    continue
                self.say(number, task, step, 0, "begins")
                outcome = self._run_step(number, task, step, held, log, file)
                if step.done():
                    continue
                if self.stopping:
                    return None
                line = outcome.error or f"it ended well, but its result is not there, or is of other data; see {log}"
                write_record(file, read_record(file) | {"failed": {"step": step.name, "line": line}})
                return line
        except Blocked as why:
            return str(why)
        self.say(number, task, None, 0, "done")
        return None

    def _run_step(self, number, task, step, held, log, file):
        """`run`, and what it cost in the task's record: time and memory of all attempts together."""
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

        outcome = self.run(step.arguments, log, held, on_poll)
        record["seconds"][step.name] = before + outcome.seconds
        record["peak_memory_mb"][step.name] = max(outcome.peak_memory_mb, record["peak_memory_mb"].get(step.name, 0.0))
        record.pop("failed", None)
        write_record(file, record)
        return outcome

    def run(self, arguments, log_file, held, on_poll):
        """Runs a command to its end.

        Args:
            arguments: program and arguments. log_file: `pathlib.Path` to which its output is appended.
            held: file descriptor of its task's lock, which the command holds as long as it lives.
            on_poll: called with the seconds so far and the newest line of its output, several times a second.

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
                pass_fds=[held],
                preexec_fn=end_with_parent,
            )
        if self.stopping:
            self._tell(signal.SIGTERM)  # a signal came before there was a process to pass it on to
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
    if first > start:  # from the middle of a line: without its beginning nobody knows who wrote it
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


def write_record(file, record):
    write_whole(file, json.dumps(record, indent=1) + "\n")
