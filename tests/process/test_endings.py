"""How an attempt ends decides where its job goes: retries, timeouts, limits, faults, aborts, each by the kernel's word."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from overseer_lite.liveness.workerfile import ENDED, WorkerFile
from tests.conftest import wait_until
from tests.process.conftest import alive, kill

pytestmark = pytest.mark.slow


def test_a_timeout_stops_the_work_and_its_subprocesses_and_is_retried(crew):
    """The handler, a program it waits for and one it detached are gone before the retry begins."""
    crew.write_app(
        "@handlers(timeout=0.3, retries=1, backoff=0.05)\n"
        "def hanging(job):\n"
        "    if job.attempt == 2: return note('again')\n"
        "    away = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "    note('child', away.pid)\n"
        "    subprocess.run(['sleep', '60'])\n"
    )
    crew.submit({"hanging": []})
    crew.start(1)
    child = crew.wait_note("child")
    again = crew.wait_note("again")
    info = crew.wait_for("hanging")
    assert not alive(int(child.words[1]))
    assert not alive(child.pid)
    assert (crew.outcomes("hanging"), info.failures, info.crashes) == (["failed", "finished"], 1, 0)
    assert crew.attempts("hanging")[0].failure.reason == "timeout"
    assert 0.3 < again.at - child.at < 3


def test_a_timeout_without_retries_fails_the_job_and_says_so(crew):
    """A job whose time is up for good is failed, its message naming the timeout."""
    crew.write_app("@handlers(timeout=0.1)\ndef hanging(job): await_file('never')\n")
    crew.submit({"hanging": []})
    crew.start(1)
    info = crew.wait_for("hanging", "failed")
    assert (info.failure.reason, info.attempt) == ("timeout", 1)
    assert "timeout of 0.1 s" in info.failure.message


def test_a_job_that_kills_its_runner_each_time_fails_at_the_crash_limit_and_says_so(crew):
    """A poison job ends: by default after three crashes, its message counting them and naming the signal."""
    crew.write_app(
        "@handlers(retries=5)\ndef poison(job):\n    print('goodbye')\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    crew.submit({"poison": []})
    crew.start(1)
    info = crew.wait_for("poison", "failed")
    assert (info.attempt, info.crashes, info.failures, info.failure.reason) == (3, 3, 0, "crash")
    assert "crashed 3 times, which is the limit" in info.failure.message
    assert "SIGSEGV" in info.failure.message
    assert "goodbye" in info.failure.message
    assert [record.signal for record in crew.attempts("poison")] == [signal.SIGSEGV] * 3


def test_a_job_that_kills_its_worker_each_time_fails_at_the_interruption_limit(crew):
    """Interruptions have a limit of their own, ten, and the crew outlives them all."""
    crew.write_app("@handlers\ndef poison(job): os.kill(os.getppid(), signal.SIGKILL); await_file('never')\n")
    crew.submit(simple_graph(Job("poison"), Job("quick", priority=-1), id="r"))
    crew.start(1)
    info = crew.wait_for("poison", "failed", timeout_s=30)
    assert (info.attempt, info.interruptions, info.crashes) == (10, 10, 0)
    assert info.failure.reason == "interruption"
    assert "was interrupted 10 times, which is the limit" in info.failure.message
    assert "Job r/poison is failed" in crew.log()
    crew.wait_for("quick")


def test_a_failure_is_retried_after_the_backoff_and_then_fails_for_good(crew):
    """Delays grow as the backoff says; when they are used up the job is failed with its handler's own words."""
    crew.write_app(
        "@handlers(retries=2, backoff=lambda failed: 0.2 * failed)\n"
        "def failing(job):\n    note('try', job.attempt)\n    raise ValueError(f'no {job.attempt}')\n"
    )
    crew.submit({"failing": []})
    crew.start(1)
    info = crew.wait_for("failing", "failed")
    one, two, three = (note.at for note in crew.notes("try"))
    assert 0.2 <= two - one < 0.4 + 1
    assert 0.4 <= three - two < 0.6 + 1
    assert (info.failures, info.attempt) == (3, 3)
    assert (info.failure.message, info.failure.exception) == ("no 3", "ValueError")
    assert "in failing" in info.failure.traceback
    assert crew.outcomes("failing") == ["failed"] * 3


def test_an_error_that_is_not_to_be_retried_is_not(crew):
    """no_retry beats retries, subclasses included."""
    crew.write_app("@handlers(retries=9, backoff=0, no_retry=LookupError)\ndef failing(job): raise KeyError('gone')\n")
    crew.submit({"failing": []})
    crew.start(1)
    assert crew.wait_for("failing", "failed").attempt == 1


def test_a_fault_comes_back_after_its_delay_and_counts_as_nothing(crew):
    """Passing trouble: later, and neither a failure nor a crash."""
    crew.write_app(
        "@handlers\n"
        "def passing(job):\n"
        "    note('try', job.attempt)\n"
        "    try:\n"
        "        if job.attempt < 3: overseer.fault('not now', delay=0.3)\n"
        "    except Exception: note('swallowed')\n"
    )
    crew.submit({"passing": []})
    crew.start(1)
    info = crew.wait_for("passing")
    one, two, three = (note.at for note in crew.notes("try"))
    assert 0.3 <= two - one < 1.5
    assert 0.3 <= three - two < 1.5
    assert crew.outcomes("passing") == ["faulted", "faulted", "finished"]
    assert (info.failures, info.crashes, info.interruptions, info.attempt) == (0, 0, 0, 3)
    assert crew.notes("swallowed") == []


@pytest.mark.parametrize("verb", ["abort", "abort_silent"])
def test_a_handlers_abort_gives_up_the_job_and_all_that_depends_on_it(crew, verb):
    """Transitively, whatever `except Exception` stands in between; independent jobs run on."""
    crew.write_app(
        f"@handlers\ndef giving_up(job):\n    try: overseer.{verb}('no use')\n    except Exception: pass\n"
        "@handlers\ndef after(job): note('after')\n"
        "@handlers\ndef last(job): note('last')\n"
    )
    crew.submit({"giving_up": [], "after": ["giving_up"], "last": ["after", "quick"], "quick": []})
    supervisor = crew.start(1, drain=True)
    assert supervisor.wait() == 0
    status = {name: str(crew.job(name).status) for name in ("giving_up", "after", "last", "quick")}
    assert status == {"giving_up": "aborted", "after": "aborted", "last": "aborted", "quick": "finished"}
    failure = crew.job("giving_up").failure
    assert (failure.message, failure.silent) == ("no use", verb == "abort_silent")
    assert crew.notes("after") == crew.notes("last") == []


def test_sys_exit_in_a_handler_fails_its_attempt_and_nothing_else(crew):
    """The runner lives on, and so does the next job."""
    crew.write_app("@handlers\ndef leaving(job):\n    note('leaving')\n    sys.exit(0)\n")
    crew.submit(simple_graph(Job("leaving"), Job("quick"), id="r"))
    crew.start(1)
    info = crew.wait_for("leaving", "failed")
    crew.wait_for("quick")
    assert "sys.exit(0)" in info.failure.message
    assert crew.notes("leaving")[0].pid == crew.notes("quick")[0].pid


def test_what_a_killed_runner_had_reported_finished_stays_finished(crew):
    """A finish committed, or only reported, before the death of its runner is no crash."""
    crew.write_app("@handlers\ndef brief(job): return 7\n")
    crew.submit({"brief": []})
    crew.start(1, env={"OVERSEER_LITE_FAILPOINTS": "runner.sent=kill%runner"})
    info = crew.wait_for("brief")
    assert (info.result, info.crashes, crew.outcomes("brief")) == (7, 0, ["finished"])


def test_what_a_runner_had_reported_in_the_steps_outlives_it_though_it_told_nobody(crew):
    """Killed between the report and the word that there is one: settled as finished, and not run again."""
    crew.write_app("@handlers\ndef brief(job):\n    note('brief')\n    return 7\n")
    crew.submit({"brief": []})
    crew.start(1, env={"OVERSEER_LITE_FAILPOINTS": "runner.marked_ended=kill%runner"})
    info = crew.wait_for("brief")
    assert (info.result, info.attempt, info.crashes, info.interruptions) == (7, 1, 0, 0)
    assert (crew.outcomes("brief"), len(crew.notes("brief"))) == (["finished"], 1)


def test_a_handler_that_tells_its_worker_to_look_for_an_end_that_is_not_there_is_not_believed(crew):
    """Nobody is settled by such a word: the runner is killed, the attempt is a crash."""
    crew.write_app(
        "from overseer_lite.runner.protocol import CONTROL_FD, look_frame\n"
        "@handlers\n"
        "def lying(job):\n"
        "    if job.attempt == 1:\n"
        "        os.write(CONTROL_FD, look_frame(10**6))\n"
        "        await_file('never')\n"
    )
    crew.submit({"lying": []})
    crew.start(1)
    crew.wait_for("lying")
    assert crew.outcomes("lying") == ["crashed", "finished"]
    assert "nonsense" in crew.attempts("lying")[0].failure.message


def test_a_runner_that_dies_between_its_handlers_end_and_the_report_spends_the_attempt_without_a_crash(crew):
    """Ended, its result too large for the steps, never sent: no crash, yet its number is not given again."""
    crew.write_app(
        "from overseer_lite import failpoints\n"
        "@handlers\n"
        "def brief(job):\n"
        "    if job.attempt == 1: failpoints.arm('runner.marked_ended', 'kill')\n"
        "    return 'x' * 100\n"
    )
    crew.submit({"brief": []})
    crew.start(1)
    info = crew.wait_for("brief")
    assert crew.outcomes("brief") == ["interrupted", "finished"]
    assert (info.attempt, info.crashes, info.interruptions) == (2, 0, 1)


def test_an_end_that_a_killed_worker_had_not_settled_spends_the_attempt_without_a_crash(crew):
    """The worker dies with a reported end in its hands: what is not recorded runs again, as the next attempt."""
    crew.write_app(
        "@handlers\n"
        "def brief(job):\n"
        "    note('brief', job.attempt)\n"
        "    if job.attempt == 1:\n"
        "        os.kill(os.getppid(), signal.SIGSTOP)\n"
        "        note('stopped', os.getppid())\n"
    )
    crew.submit({"brief": []})
    crew.start(1)
    worker = int(crew.wait_note("stopped").words[1])
    path = Path(crew.store.state_directory, "workers", crew.store.workers()[0].id)
    wait_until(lambda: [slot.state for slot in WorkerFile.read(str(path)).slots] == [ENDED], 5, "the end's mark")
    kill(worker)
    info = crew.wait_for("brief")
    assert crew.outcomes("brief") == ["interrupted", "finished"]
    assert (info.attempt, info.crashes, info.interruptions) == (2, 0, 1)
    assert "after the handler had ended" in crew.attempts("brief")[0].failure.message


def test_a_command_past_its_timeout_is_gone_with_all_it_started_before_the_retry(crew):
    """Though it runs in a group of its own, and though its child cleaned its environment."""
    crew.write_app(
        "handlers['step'] = overseer.command("
        '"if [ $OVERSEER_ATTEMPT = 2 ]; then exit 0; fi; env -i sleep 61 & echo $$ $! > $CREW_DIRECTORY/new;'
        ' mv $CREW_DIRECTORY/new $CREW_DIRECTORY/pids; wait", timeout=0.5, retries=1, backoff=0)\n'
        "@handlers\ndef after(job): note('after', job.attempt)\n"
    )
    crew.submit({"step": [], "after": ["step"]})
    crew.start(1)
    crew.wait_note("after")
    assert crew.outcomes("step") == ["failed", "finished"]
    assert [alive(int(pid)) for pid in (crew.directory / "pids").read_text().split()] == [False, False]


def test_an_abort_stops_a_running_command_and_all_it_started(crew):
    """An operator's wish is granted only when nothing of the attempt is left."""
    crew.write_app(
        "handlers['step'] = overseer.command("
        "'sleep 62 & echo $$ $! > $CREW_DIRECTORY/new; mv $CREW_DIRECTORY/new $CREW_DIRECTORY/pids; wait')\n"
    )
    crew.submit({"step": []})
    crew.start(1)
    pids = crew.directory / "pids"
    wait_until(pids.exists, 10, "the command")
    crew.store.abort_job("r/step")
    crew.wait_for("step", "aborted")
    assert [alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_a_command_s_output_and_exit_code_stand_in_its_history(crew):
    """What it wrote last, and how it ended, without Python's words around it."""
    crew.write_app("handlers['step'] = overseer.command('echo so far; echo no good >&2; exit 4')\n")
    crew.submit({"step": []})
    crew.start(1)
    info = crew.wait_for("step", "failed")
    assert info.failure.message == "`echo so far; echo no good >&2; exit 4` exited with 4"
    assert crew.attempts("step")[0].output == "so far\nno good\n"


def test_a_worker_registers_the_limits_of_the_types_it_handles(crew):
    """So that `why` can name them; those of types it was told to leave out are none of its."""
    crew.write_app(
        "@handlers(limit=4)\ndef count(job): pass\n"
        "@handlers(limit=1)\ndef other(job): pass\n"
        "@handlers\ndef free(job): pass\n"
    )
    crew.start(1, types=("count", "free"))
    (worker,) = crew.wait_ready()
    assert (set(worker.types), worker.limits) == ({"count", "free"}, {"count": 4})
