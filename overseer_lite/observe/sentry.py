"""Failures of handlers, sent to Sentry: the optional extra `overseer-lite[sentry]`.

Each report opens a client of its own, sends, and closes it again. That costs milliseconds where something went wrong
already, and buys three things: nothing is imported or started until the first failure; the user's own use of sentry-sdk
in a handler is neither seen nor disturbed; and no thread of ours stays behind in a runner, which would have to be
replaced for it before the failed attempt is settled.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from overseer_lite.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry_sdk.transport import Transport

    from overseer_lite.handler import RunningJob

FLUSH_S: Final = 2.0


class SentryMissingError(ConfigError):
    """Sentry is asked for, and its SDK is not installed."""

    def __init__(self) -> None:
        self.name = "sentry_dsn"
        InvalidInputError.__init__(
            self,
            "Failures are to be sent to Sentry, but sentry-sdk is not installed. "
            "Install it: pip install 'overseer-lite[sentry]'; or leave the Sentry address out.",
        )


def observer(
    dsn: str, transport: type[Transport] | None = None, *, send_args: bool = False
) -> Callable[[BaseException, RunningJob], None]:
    """Return a function that reports what a handler raised to Sentry, with the job's id, type, run and attempt as tags.

    The report has been sent, or two seconds have passed, when that function returns: a runner that dies right after has
    lost nothing. Trouble on the way to Sentry is not raised. Neither a job's args nor the values of local variables
    (which hold them) are sent unless asked for; what the handler wrote into its exception's message is.

    Args:
        dsn: The project's address at Sentry. Release and environment are taken from `SENTRY_RELEASE` and
            `SENTRY_ENVIRONMENT`.
        transport: A transport class of sentry-sdk, for tests and proxies; HTTP unless given.
        send_args: Send the job's args along.

    Raises:
        SentryMissingError: sentry-sdk is not installed.
        ConfigError: The address is none.
    """
    if importlib.util.find_spec("sentry_sdk") is None:
        raise SentryMissingError
    check_dsn(dsn)

    def report(error: BaseException, job: RunningJob) -> None:
        """Send one failure; blocks for at most two seconds."""
        before = set(threading.enumerate())
        send(error, job, _options(dsn, transport), send_args=send_args)
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("sentry"):
                thread.join(FLUSH_S)

    return report


def send(error: BaseException, job: RunningJob, options: dict[str, Any], *, send_args: bool) -> None:
    """Open a client, send one event, close the client."""
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    scope = sentry_sdk.Scope()
    for tag, value in (("job", job.id), ("job_type", job.type), ("run", job.run), ("attempt", str(job.attempt))):
        scope.set_tag(tag, value)
    if send_args:
        scope.set_context("args", dict(job.args))
    client = sentry_sdk.Client(**options)
    try:
        event, hint = event_from_exception(
            error, client_options=client.options, mechanism={"type": "overseer_lite", "handled": False}
        )
        client.capture_event(event, hint=hint, scope=scope)
    finally:
        client.close(timeout=FLUSH_S)


def check_dsn(dsn: str) -> None:
    """Raise ConfigError unless this looks like a project's address; found out at the start, not at the first failure."""
    try:
        parts = urlsplit(dsn)
        usable = bool(parts.scheme in {"http", "https"} and parts.username and parts.hostname and parts.path.strip("/"))
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("sentry_dsn", dsn, "the call of observer()", "https://KEY@HOST/PROJECT")


def _options(dsn: str, transport: type[Transport] | None) -> dict[str, Any]:
    """Return options of a client that patches nothing in this process and sends nothing but the one event."""
    return {
        "dsn": dsn,
        "transport": transport,
        "default_integrations": False,
        "auto_enabling_integrations": False,
        "auto_session_tracking": False,
        "enable_backpressure_handling": False,  # would start a thread
        "send_client_reports": False,
        "include_local_variables": False,  # job.args is one
    }
