"""Workers, runners and supervisors are killed; their jobs come back, once, and nothing of the dead is left."""

from __future__ import annotations

import re
import signal

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.conftest import wait_until
from tests.process.conftest import alive, kill, parent

pytestmark = pytest.mark.slow


def test_a_killed_workers_job_finishes_on_attempt_two_with_heartbeats_of_a_minute(crew):
    """A SIGKILLed worker's job runs again at once, by the kernel's word: no heartbeat takes part."""
    crew.submit({"first_held": []})
    crew.start(2, constants={"overseer_lite.supervisor.Supervisor.sweep_s": 60.0})  # nor a look at all workers
    crew.wait_ready(2)
    first = crew.wait_note("first_held", "first_held", 1)
    killed_at = kill(parent(first.pid))
    second = crew.wait_note("first_held", "first_held", 2)
    info = crew.wait_for("first_held")
    print(f"worker killed, next start {(second.at - killed_at) * 1e3:.1f} ms later")
    assert (info.attempt, info.result, info.crashes, info.interruptions) == (2, 2, 0, 1)
    assert crew.outcomes("first_held") == ["interrupted", "finished"]
    assert second.at - killed_at < 2


def test_a_killed_runners_job_finishes_on_attempt_two_counted_as_a_crash(crew):
    """A SIGKILLed runner is a crash: its worker lives on, says which signal it was, and starts another runner."""
    crew.submit({"first_held": []})
    crew.start(1)
    first = crew.wait_note("first_held", "first_held", 1)
    worker = parent(first.pid)
    killed_at = kill(first.pid)
    second = crew.wait_note("first_held", "first_held", 2)
    info = crew.wait_for("first_held")
    print(f"runner killed, next start {(second.at - killed_at) * 1e3:.1f} ms later")
    assert (info.attempt, info.crashes, info.interruptions) == (2, 1, 0)
    assert crew.outcomes("first_held") == ["crashed", "finished"]
    assert crew.attempts("first_held")[0].signal == signal.SIGKILL
    assert parent(second.pid) == worker


def test_a_dead_worker_is_replaced(crew):
    """The crew is as large after a death as before it, and the dead one's entry and files are gone."""
    crew.start(1)
    (before,) = crew.wait_ready(1)
    kill(before.pid)
    wait_until(lambda: [record.id for record in crew.store.workers()] not in ([], [before.id]), 10, "a new worker")
    crew.submit({"quick": []})
    crew.wait_for("quick")
    (after,) = crew.store.workers()
    assert after.id != before.id
    assert [name for name in crew.companions() if before.id in name] == []


def test_an_idle_runner_that_is_killed_is_replaced(crew):
    """A runner that dies between two jobs costs nobody anything."""
    crew.start(1)
    (worker,) = crew.wait_ready(1)
    kill(worker.runner_pid)
    crew.wait_log("Runner")
    crew.submit({"quick": []})
    info = crew.wait_for("quick")
    assert (info.attempt, info.crashes) == (1, 0)
    assert crew.store.workers()[0].id == worker.id


def test_a_runner_killed_while_it_starts_is_started_again(crew):
    """Somebody's SIGKILL at a runner that has not imported its app yet is no fault of the app."""
    crew.write_app("note('import')\nif not os.path.exists(os.path.join(HERE, 'fine')): await_file('fine')\n")
    crew.submit({"quick": []})
    supervisor = crew.start(1)
    first = crew.wait_note("import")
    worker = parent(first.pid)
    kill(first.pid)
    second = crew.wait_note("import", count=2)
    assert parent(second.pid) == worker
    crew.allow("fine")
    assert crew.wait_for("quick").attempt == 1
    assert supervisor.stop() == 0


def test_the_log_of_a_death_reads_like_the_ancestors(crew):
    """A five-job graph, one worker killed, its job reset by another: the ancestor's words, each at its place."""
    crew.write_app(
        "@handlers\ndef a(job): note('a', job.attempt)\n"
        "@handlers\ndef b(job):\n    note('b', job.attempt)\n    if job.attempt == 1: await_file('never')\n"
        "@handlers\ndef c(job): note('c', job.attempt)\n"
        "@handlers\ndef d(job): note('d', job.attempt)\n"
        "@handlers\ndef e(job): note('e', job.attempt)\n"
    )
    crew.submit({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]})
    crew.start(2, settings={"heartbeat_interval_s": 0.05, "tolerance": 100})
    first = crew.wait_note("b", 1)
    crew.wait_log("Heartbeat r/b: ")
    kill(parent(first.pid))
    crew.wait_for("e")
    # Line by line as each process wrote them: those of two processes may come between one another.
    lines = crew.log().splitlines(keepends=True)
    text = "".join(sorted(lines, key=lambda line: line.split()[3]))
    for job in "abcde":
        assert re.search(
            rf"Found 1 handleable jobs\n.*INFO .*Reserving job r/{job} \({job}\)\n.*Reserved job r/{job}\n", text
        ), job
        assert re.search(rf" INFO .*Job r/{job} exited with status finished", text), job
    assert re.search(r" INFO .*Heartbeat r/b: \d{10}\n", text)
    assert re.search(r" WARNING .*Found 1 jobs with failed heartbeats\n.* WARNING .*Resetting: r/b\n", text)
    text = "".join(lines)
    assert text.index("Resetting: r/b") < text.rindex("Reserving job r/b (b)")


def test_what_a_dead_workers_handler_started_is_gone_before_the_next_attempt_begins(crew):
    """P1 holds for subprocesses too, even for one that left its group and dropped its environment."""
    crew.write_app(
        "@handlers\n"
        "def parent_of(job):\n"
        "    if job.attempt == 1:\n"
        "        one = subprocess.Popen(['sleep', '60'])\n"
        "        two = subprocess.Popen(['sleep', '60'], env={}, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "        note('children', one.pid, two.pid)\n"
        "        await_file('never')\n"
        "    pids = json.loads(open(os.path.join(HERE, 'pids')).read())\n"
        "    return [lives(pid) for pid in pids]\n"
    )
    crew.submit({"parent_of": []})
    crew.start(1)
    note = crew.wait_note("children")
    pids = [int(word) for word in note.words[1:]]
    (crew.directory / "pids").write_text(str(pids))
    assert all(map(alive, pids))
    kill(parent(note.pid))
    assert crew.wait_for("parent_of").result == [False, False]


def test_workers_of_a_killed_supervisor_finish_their_job_and_leave(crew):
    """The pipe to the supervisor ends: finish this job, take no more, leave; the next supervisor has nothing to do."""
    crew.submit(simple_graph(Job("held"), Job("quick", priority=-1), id="r"))
    supervisor = crew.start(1)
    note = crew.wait_note("held", "held", 1)
    supervisor.signal(signal.SIGKILL)
    supervisor.wait()
    crew.wait_log("The supervisor is gone")
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
    crew.wait_log("Worker stopped")
    assert crew.companions() == []
    assert crew.store.workers() == []
    assert crew.job("quick").status == "unstarted"
    assert not alive(note.pid)
    after = crew.start(1, drain=True)
    assert after.wait() == 0
    assert crew.outcomes("held") == ["finished"]
    assert crew.outcomes("quick") == ["finished"]


def test_after_everything_was_killed_at_once_a_new_supervisor_recovers_within_two_seconds(crew):
    """Its first sweep finds the dead, kills their orphans, and runs their jobs again."""
    crew.write_app(
        "@handlers\n"
        "def orphaning(job):\n"
        "    if job.attempt == 1:\n"
        "        note('child', subprocess.Popen(['sleep', '60'], start_new_session=True).pid)\n"
        "        await_file('never')\n"
        "    note('again', job.attempt)\n"
    )
    crew.submit({"orphaning": []})
    first = crew.start(2)
    crew.wait_ready(2)
    note = crew.wait_note("child")
    child = int(note.words[1])
    for pid in crew.processes():
        if pid != child:
            kill(pid)
    first.wait()
    assert alive(child)
    second = crew.start(2)
    started_at = kill(second.pid, 0)
    again = crew.wait_note("again", 2)
    print(f"everything killed; running again {again.at - started_at:.3f} s after the new start")
    assert again.at - started_at < 2
    assert not alive(child)
    assert crew.wait_for("orphaning").interruptions == 1


def test_what_a_killed_attempt_wrote_is_in_its_history(crew):
    """Output goes to a file as it is written, so a SIGKILL loses none of it: stdout, stderr, logging, a subprocess."""
    crew.write_app(
        "@handlers\n"
        "def loud(job):\n"
        "    if job.attempt == 1:\n"
        "        print('to stdout')\n"
        "        print('to stderr', file=sys.stderr)\n"
        "        logging.getLogger('mine').info('to logging')\n"
        "        subprocess.run(['echo', 'from a child'], check=True)\n"
        "        note('loud')\n"
        "        await_file('never')\n"
        "    print('quiet now')\n"
    )
    crew.submit({"loud": []})
    crew.start(1)
    kill(parent(crew.wait_note("loud").pid))
    crew.wait_for("loud")
    one, two = crew.attempts("loud")
    for words in ("to stdout", "to stderr", "INFO mine: to logging", "from a child"):
        assert words in one.output
    assert one.output_bytes == len(one.output.encode())
    assert two.output == "quiet now\n"
    assert one.ran_s > 0
