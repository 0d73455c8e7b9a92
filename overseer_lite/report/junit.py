"""JUnit XML: what CI systems read. A testcase a job, so that a failed job is shown as a failed test is."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Final

from overseer_lite.job import Status
from overseer_lite.report.facts import blockers, each_history, failure_line, find_run, plain, ran_s

if TYPE_CHECKING:
    from overseer_lite.job import JobInfo
    from overseer_lite.store import FullStore

_MESSAGE_CHARS: Final = 1000
# A file that a CI system refuses for its size says nothing at all (GitLab: 30 MB). The store keeps every word.
_WORDS_CHARS: Final = 8 * 1024 * 1024


def junit(store: FullStore, run: str) -> str:
    r"""Return a run as JUnit XML.

    A testcase a job, in order of submission: its class is the run, its time the seconds its handler ran in all
    attempts. A failed or aborted job is a failure, with its traceback and the last attempt's output as the store keeps
    it. These words end after 8 million characters; failures after them have their message alone. A job that has not
    ended, stuck or not, is skipped, and the message says why. Characters that XML cannot hold are written out, as
    `\x1b`.

    Raises:
        UnknownRunError: There is no such run.
    """
    submitted_at = find_run(store, run).submitted_at
    jobs = store.jobs(run=run)
    held_up_by = blockers(jobs)
    suite = ET.Element("testsuite", {"name": plain(run)})
    time_s, failures, skipped, room = 0.0, 0, 0, _WORDS_CHARS
    for job, attempts in each_history(store, jobs):
        job_s = ran_s(attempts)
        case = ET.SubElement(suite, "testcase", _labels(job, job_s))
        if job.status in (Status.FAILED, Status.ABORTED):
            room -= _add_failure(case, job, room)
            room -= _add_output(case, store, job, room)
            failures += 1
        elif job.status is not Status.FINISHED:
            ET.SubElement(case, "skipped", {"message": _why_skipped(job, held_up_by.get(job.id))})
            skipped += 1
        time_s += job_s
    totals = {
        "tests": str(len(jobs)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{time_s:.3f}",
    }
    suite.attrib |= totals | {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(submitted_at))}
    root = ET.Element("testsuites", {"name": "overseer_lite", **totals})
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _labels(job: JobInfo, job_s: float) -> dict[str, str]:
    return {"classname": plain(job.run), "name": plain(job.name), "time": f"{job_s:.3f}"}


def _add_failure(case: ET.Element, job: JobInfo, room: int) -> int:
    """Add the failure, with the traceback if there is one and room for it; return how much was written."""
    message = failure_line(job.failure) or f"{job.status.value} with a job it depends on"
    kind = job.status.value
    if job.failure is not None:
        kind = job.failure.exception or job.failure.reason
    words = plain((job.failure and job.failure.traceback) or message).rstrip()
    words = words if len(words) <= room else message
    number = f"{job.status.value} on attempt {job.attempt}\n" if job.attempt > 1 else ""
    failure = ET.SubElement(case, "failure", {"message": message[:_MESSAGE_CHARS], "type": plain(kind)})
    failure.text = number + words
    return len(words)


def _add_output(case: ET.Element, store: FullStore, job: JobInfo, room: int) -> int:
    """Add the last attempt's output if there is any and room for it; return how much that was."""
    if not job.attempt or room <= 0:
        return 0
    attempts = store.attempts(job.id)
    output = plain(attempts[-1].output) if attempts else ""
    if not output or len(output) > room:
        return 0
    ET.SubElement(case, "system-out").text = output
    return len(output)


def _why_skipped(job: JobInfo, blocker: JobInfo | None) -> str:
    if blocker is not None:
        return f"stuck behind {plain(blocker.id)}, which {_ended(blocker)}"
    if job.stuck:
        return "stuck behind a job of another run"
    if job.status is Status.STARTED:
        return f"not ended: attempt {job.attempt} was still started"
    if job.attempt:
        return f"not ended: back to unstarted after attempt {job.attempt}"
    return "not started"


def _ended(job: JobInfo) -> str:
    return "failed" if job.status is Status.FAILED else "was aborted"
