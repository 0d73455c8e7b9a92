"""The worker process: what a supervisor spawns."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from overseer_lite import failpoints
from overseer_lite.errors import OverseerError, StoreUnavailableError
from overseer_lite.handler import limits_of
from overseer_lite.heartbeat import Heartbeat
from overseer_lite.liveness.identity import Identity
from overseer_lite.liveness.spawn import become_subreaper, reap_strays
from overseer_lite.liveness.workerfile import WorkerFile
from overseer_lite.log import configure
from overseer_lite.runner import ProcessRunner, Spec
from overseer_lite.store import WorkerRecord, open_store
from overseer_lite.worker.loop import FINISHING, NOW, AppTroubleError, TreeLeftError, Worker, WorkerSpec

if TYPE_CHECKING:
    from overseer_lite.store import Bell, FullStore

log = logging.getLogger("overseer_lite.worker")

#: Descriptors by which a worker finds its supervisor.
LIFE_FD: Final = 3  # a byte: the spare is needed; at its end: the supervisor is gone; finish, take no more, leave
REPORT_FD: Final = 4  # `r` ready, `j` first job begun, then its last words if there are any

#: Where the runner looks for the address of Sentry; inherited by way of the worker.
SENTRY_VARIABLE: Final = "OVERSEER_LITE_SENTRY_DSN"

#: Between a worker and its supervisor only; what the program exits with is the supervisor's to say.
EXIT_STOPPED: Final = 0  # as it was told, at once or in order: whoever told it knows which
EXIT_TROUBLE: Final = 1
EXIT_APP: Final = 2
EXIT_STORE: Final = 3
EXIT_DRAINED: Final = 20
EXIT_RUNNER: Final = 21


class _Signals:
    """Flags that signals set, and the pipe that ends a wait when one comes. Handlers do nothing else."""

    def __init__(self) -> None:
        self.stops = 0
        self.renew = False
        self.child_died = False
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._renew)
        signal.signal(signal.SIGCHLD, self._child)

    def _stop(self, _signum: int, _frame: object) -> None:
        self.stops += 1

    def _renew(self, _signum: int, _frame: object) -> None:
        self.renew = True

    def _child(self, _signum: int, _frame: object) -> None:
        self.child_died = True

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)


class WorkerProcess:
    """Everything a worker process is: signals, lock file, heartbeat, store and loop."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._signals = _Signals()
        self._orphaned = False
        self._spare: bool = config["spare"]  # stands by, not in the store yet, its runner held back
        self._said_first_job = False
        self.store: FullStore = open_store(config["address"], **config["store"], timeout_s=1.0, alarm=True)
        self._identity = Identity.mine(self.store.clock.read().boot_id)

    def run(self) -> int:
        """Work until told to stop, drained, or in lasting trouble; return the process's exit code."""
        config, store = self._config, self.store
        worker_id: str = config["id"]
        path = os.path.join(store.state_directory, "workers", worker_id)
        file = WorkerFile.create(
            path,
            store_uuid=store.uuid,
            worker_id=worker_id,
            identity=self._identity,
            now_us=store.clock.read().monotonic_us,
        )
        heartbeat = Heartbeat(
            lambda: file.beat(store.clock.read().monotonic_us),
            config["heartbeat_interval_s"],
            after=getattr(store.clock, "after", None),
        )
        heartbeat.start()
        generation = 0
        runner_spec = Spec(config["app"], worker_id, store.state_directory)

        def new_runner() -> ProcessRunner:
            nonlocal generation
            generation += 1
            return ProcessRunner(runner_spec, file, generation, held_back=self._spare)

        spec = WorkerSpec(
            worker_id,
            None if config["types"] is None else tuple(config["types"]),
            config["run"],
            config["drain"],
            config["heartbeat_interval_s"],
        )
        log.info("Worker standing by" if self._spare else "Worker starting")
        worker = Worker(
            spec, store, file, new_runner, enter=self._enter, heed=self._heed, wake_fds=(self._signals.fd, LIFE_FD)
        )
        try:
            while not worker.done:
                worker.work_once()
                self._look_after(worker)
            worker.close()
        except BaseException:
            worker.runner.bury()  # what it held is for whoever recovers us; what it started must not outlive us
            raise
        self._leave(worker_id, file)
        heartbeat.stop()
        file.close()
        store.close()
        log.info("Worker stopped")
        return EXIT_DRAINED if worker.drained and worker.stopping == 0 else EXIT_STOPPED

    def _enter(self, runner: ProcessRunner) -> Bell:
        config = self._config
        hello = runner.hello
        assert hello is not None
        types = tuple(kind for kind in hello.types if config["types"] is None or kind in config["types"])
        record = WorkerRecord(
            id=config["id"],
            pid=os.getpid(),
            runner_pid=runner.pid,
            identity=self._identity.to_text(),
            supervisor=config["supervisor"],
            app=config["app"],
            app_file=hello.app_file,
            app_mtime=hello.app_mtime,
            types=types,
            run=config["run"],
            limits=limits_of({kind: runner.options[kind] for kind in types}),
        )
        bell = self.store.register(record)
        _report(b"r")
        return bell

    def _leave(self, worker_id: str, file: WorkerFile) -> None:
        """Strike this worker out; if the store cannot be written just now, whoever finds it dead does so."""
        try:
            self.store.leave(worker_id)
        except StoreUnavailableError as error:
            log.warning("Left without signing off: %s", error)
        else:
            file.unlink()

    def _heed(self, worker: Worker) -> None:
        """Do what signals and the supervisor's pipe have said since the last turn."""
        self._signals.clear()
        said = None if self._orphaned else _said(LIFE_FD)
        if said == b"":
            self._orphaned = True
            worker.forget(LIFE_FD)
            log.warning("The supervisor is gone; finishing what runs, taking no more")
        elif said is not None:
            self._spare = False
            log.info("Worker starting")
            worker.runner.let_go()
        if self._signals.renew:
            self._signals.renew = False
            worker.renew = True
        wanted = max(FINISHING if self._orphaned else 0, min(self._signals.stops, NOW))
        worker.stopping = max(worker.stopping, wanted)

    def _look_after(self, worker: Worker) -> None:
        """Tell the supervisor of the first job, and reap the orphans that came to us."""
        if worker.jobs_begun and not self._said_first_job:
            self._said_first_job = True
            _report(b"j")
        if self._signals.child_died:
            self._signals.child_died = False
            reap_strays({worker.runner.pid})


def _said(fd: int) -> bytes | None:
    """Return what was written into a pipe since it was last read, b"" at its end, None if nothing was."""
    try:
        return os.read(fd, 1)
    except BlockingIOError:
        return None


def _report(data: bytes) -> None:
    with suppress(BrokenPipeError):  # the supervisor is gone; LIFE_FD tells us
        os.write(REPORT_FD, data)


def _place(error: BaseException) -> str:
    """Return where an error was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "nowhere" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def main(arguments: list[str]) -> None:
    """Start as the process a supervisor spawned; the one argument is JSON."""
    config = json.loads(arguments[0])
    failpoints.load("worker")
    configure(config["log_level"], config["id"])
    os.set_blocking(LIFE_FD, False)
    for fd in (LIFE_FD, REPORT_FD):
        os.set_inheritable(fd, False)
    become_subreaper()
    try:
        code = WorkerProcess(config).run()
    except AppTroubleError as error:
        _report(f" {error}".encode())
        log.error("%s", error)  # noqa: TRY400 - the app's error, said in one line
        code = EXIT_APP if error.lasting else EXIT_RUNNER
    except StoreUnavailableError as error:  # passing trouble: another worker may fare better in a moment
        _report(f" {error}".encode())
        log.error("%s", error)  # noqa: TRY400 - one line is what the operator needs
        code = EXIT_TROUBLE
    except (OverseerError, TreeLeftError) as error:
        _report(f" {error}".encode())
        log.error("%s", error)  # noqa: TRY400 - one line is what the operator needs
        code = getattr(error, "exit_code", EXIT_TROUBLE)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        _report(f" {words}".encode())
        log.error("The worker ends by an error of its own: %s (%s)", words, _place(error))  # noqa: TRY400 - in one line
        log.debug("Where from", exc_info=True)
        code = EXIT_TROUBLE
    logging.shutdown()
    sys.exit(code)
