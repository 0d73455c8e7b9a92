"""Failures reported to Sentry: what is sent, what is not, and what stays behind (nothing)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

sentry_sdk = pytest.importorskip("sentry_sdk")

from sentry_sdk.transport import Transport  # noqa: E402

from overseer_lite.errors import ConfigError  # noqa: E402
from overseer_lite.handler import Handler, RunningJob, abort, abort_silent, execute, fault  # noqa: E402
from overseer_lite.observe.sentry import observer  # noqa: E402

SECRET = f"secret-{17}"  # not in the source as such: a report may quote the lines around a failure
DSN = "https://key@sentry.invalid/1"
JOB = RunningJob(type="count", run="nightly", name="count-3", attempt=2, args={"customer": SECRET})


class Caught(Transport):
    """A transport of the real SDK that keeps what it was given instead of sending it."""

    events: list[dict]
    flushed: list[float]

    def capture_envelope(self, envelope):
        self.events.append(envelope.get_event())

    def flush(self, timeout, callback=None):
        self.flushed.append(timeout)


@pytest.fixture
def caught():
    """Return a transport class that has caught nothing yet."""
    return type("Fresh", (Caught,), {"events": [], "flushed": []})


def failure(customer=SECRET):
    """Return an exception with a traceback whose frame holds what must not be sent."""
    try:
        raise ZeroDivisionError("no rows to divide by")
    except ZeroDivisionError as error:
        return error


def test_a_failure_is_sent_with_the_job_s_id_type_run_and_attempt(caught):
    """Who reads the report can find the attempt it speaks of."""
    observer(DSN, caught)(failure(), JOB)

    (event,) = caught.events
    assert event["tags"] == {"job": "nightly/count-3", "job_type": "count", "run": "nightly", "attempt": "2"}
    assert [(e["type"], e["value"]) for e in event["exception"]["values"]] == [
        ("ZeroDivisionError", "no rows to divide by")
    ]


def test_the_report_is_flushed_within_two_seconds_before_the_observer_returns(caught):
    """A runner that dies right afterwards has sent it."""
    observer(DSN, caught)(failure(), JOB)

    assert caught.flushed == [2.0]


def test_args_are_not_sent_unless_asked_for(caught):
    """Neither as such nor as the local variables of a frame: they are the user's data."""
    observer(DSN, caught)(failure(), JOB)
    observer(DSN, caught, send_args=True)(failure(), JOB)

    assert [SECRET in str(event) for event in caught.events] == [False, True]
    assert caught.events[1]["contexts"]["args"] == {"customer": SECRET}


def test_a_report_leaves_no_thread_behind(caught):
    """A stray thread would make the runner be replaced; the default transport brings one of its own."""
    before = set(threading.enumerate())

    observer("http://key@127.0.0.1:9/1")(
        failure(), JOB
    )  # the discard port: refused at once, nothing leaves the machine

    assert set(threading.enumerate()) == before


def test_the_user_s_own_sentry_client_is_left_alone(caught):
    """A handler that uses sentry-sdk itself keeps its client, and it sees nothing of ours."""
    mine = type("Mine", (Caught,), {"events": [], "flushed": []})
    client = sentry_sdk.Client(dsn=DSN, transport=mine, default_integrations=False)
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        observer(DSN, caught)(failure(), JOB)

        assert sentry_sdk.get_client() is client
    client.close()
    assert (len(mine.events), len(caught.events)) == (0, 1)


def fails(job):
    """Raise, with what must not be sent in a local variable."""
    customer = job.args["customer"]
    raise LookupError(f"no rows for a customer of {len(customer)} letters")


@pytest.mark.parametrize(
    ("handler", "reported"),
    [
        (fails, ["LookupError"]),
        (lambda _: abort("wrong input"), ["AbortJob"]),
        (lambda _: abort_silent("nothing to do today"), []),
        (lambda _: fault("the network is down"), []),
        (lambda _: 42, []),
    ],
    ids=["fails", "abort", "abort_silent", "fault", "finishes"],
)
def test_failures_and_loud_aborts_are_reported_and_nothing_else(caught, handler, reported):
    """As `execute` calls it: passing trouble and silent aborts are nobody's concern."""
    execute(Handler(handler), JOB, observe=observer(DSN, caught))

    assert [event["exception"]["values"][-1]["type"] for event in caught.events] == reported
    assert SECRET not in str(caught.events)


@pytest.mark.parametrize(
    "dsn", ["", "nonsense", "https://sentry.invalid/1", "https://key@sentry.invalid", "http://[k@h/1"]
)
def test_an_address_that_is_none_is_refused_before_anything_runs(dsn):
    """Found at the start, not at the first failure in the night."""
    with pytest.raises(ConfigError, match="sentry_dsn") as raised:
        observer(dsn)

    assert raised.value.exit_code == 2


def in_fresh_interpreter(code):
    """Run code in an interpreter that has imported nothing yet; return what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_the_sdk_the_error_names_the_extra_to_install():
    """One clear line, exit 2, and no ImportError."""
    said = in_fresh_interpreter("""
        import sys
        sys.modules["sentry_sdk"] = None  # as if it were not installed
        from overseer_lite.observe.sentry import observer
        from overseer_lite.errors import ConfigError
        try:
            observer("https://key@sentry.invalid/1")
        except ConfigError as error:
            print(error.exit_code, error)
    """)

    assert said.startswith("2 ")
    assert "pip install 'overseer-lite[sentry]'" in said


def test_the_sdk_is_not_imported_before_the_first_failure():
    """Asking for Sentry costs a runner's start nothing."""
    said = in_fresh_interpreter("""
        import sys
        from overseer_lite.observe.sentry import observer
        observer("https://key@sentry.invalid/1")
        print("sentry_sdk" in sys.modules)
    """)

    assert said == "False"
