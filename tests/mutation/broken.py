"""Stores with one broken verb each: the SQLite store, wrapped. A factory for each, by its name in `BROKEN`.

They break as a store written in good faith would: a step forgotten, a case not thought of, two transactions for one.
"""

from __future__ import annotations

import contextlib
from typing import Any

from overseer_lite.errors import GraphConflictError, SupersededError
from overseer_lite.job import Attempt, Outcome, Settlement, Status
from overseer_lite.store import Submitted
from overseer_lite.testing import sqlite_factory

#: What each wrapper breaks.
BROKEN: dict[str, str] = {}


class Wrapper:
    """A store that does what another does."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)


def broken(wrapper):
    """Note a wrapper by the name of its factory, which is put beside it."""
    name = wrapper.__name__.lower()
    BROKEN[name] = wrapper.__doc__.removesuffix(".")

    def factory(directory, clock, crash_limit=3):
        return wrapper(sqlite_factory(directory, clock, crash_limit=crash_limit))

    globals()[name] = factory
    return wrapper


def holder(store, job_id):
    """Return the attempt that holds a job."""
    info = store.job_info(job_id)
    return Attempt(job_id, info.attempt, info.worker)


@broken
class Dropping(Wrapper):
    """transact_graph: a graph that conflicts is dropped in silence, as the ancestor did."""

    def transact_graph(self, graph):
        try:
            return self._store.transact_graph(graph)
        except GraphConflictError:
            return Submitted([], graph.validate().ids)


@broken
class Caching(Wrapper):
    """job_info: what was read once is handed out again, and may be changed by whoever reads it."""

    def __init__(self, store):
        super().__init__(store)
        self._args: dict[str, Any] = {}

    def job_info(self, job_id):
        info = self._store.job_info(job_id)
        return info and info._replace(args=self._args.setdefault(job_id, info.args))


@broken
class Endless(Wrapper):
    """jobs_ready: the limit is forgotten."""

    def jobs_ready(self, types=None, limit=100):
        return self._store.jobs_ready(types, 10_000)


@broken
class Generous(Wrapper):
    """reserve_job: who holds the job already is given it once more."""

    def reserve_job(self, worker, job_id):
        info = self._store.job_info(job_id)
        if info is not None and info.worker == worker:
            return holder(self._store, job_id)
        return self._store.reserve_job(worker, job_id)


@broken
class Polite(Wrapper):
    """heartbeat_job: a beat for any job in any status is taken, as the ancestor did."""

    def heartbeat_job(self, attempt):
        with contextlib.suppress(SupersededError):
            self._store.heartbeat_job(attempt)


@broken
class Unfenced(Wrapper):
    """finish_job: a stale worker finishes another's attempt, as in the ancestor."""

    def finish_job(self, attempt, result=None, added=()):
        info = self._store.job_info(attempt.job_id)
        if info is not None and info.status is Status.STARTED:
            attempt = holder(self._store, attempt.job_id)
        self._store.finish_job(attempt, result, added)


@broken
class Forgetful(Wrapper):
    """finish_job: an empty result is no result."""

    def finish_job(self, attempt, result=None, added=()):
        self._store.finish_job(attempt, result or None, added)


@broken
class Slipshod(Wrapper):
    """fail_job: a retry later is a retry at once."""

    def fail_job(self, attempt, failure=None, retry_in_s=None):
        self._store.fail_job(attempt, failure, None if retry_in_s is None else 0.0)


@broken
class Poisoned(Wrapper):
    """reset_job: a crash is not counted, so that a poison job loops for ever, as in the ancestor."""

    def reset_job(self, attempt, delay_s=0.0, crashed=False):
        return self._store.reset_job(attempt, delay_s)


@broken
class Late(Wrapper):
    """reset_job: a late monitor puts back what another worker is running."""

    def reset_job(self, attempt, delay_s=0.0, crashed=False):
        info = self._store.job_info(attempt.job_id)
        if info is not None and info.status is Status.STARTED:
            attempt = holder(self._store, attempt.job_id)
        return self._store.reset_job(attempt, delay_s, crashed)


@broken
class Shallow(Wrapper):
    """abort_job: what depends on the job is left alone."""

    def abort_job(self, job_id, failure=None, attempt=None):
        info = self._store.job_info(job_id)
        if attempt is None and info is not None and info.status is Status.UNSTARTED and not info.waiting_for:
            attempt = self._store.reserve_job("nobody", job_id)
        return self._store.abort_job(job_id, failure, attempt)[:1]


@broken
class Hasty(Wrapper):
    """jobs_dead: exactly as long is taken for longer."""

    def jobs_dead(self, silent_for_s):
        return self._store.jobs_dead(silent_for_s - 0.000001)


@broken
class Halved(Wrapper):
    """exchange: settling and reserving are two transactions."""

    def exchange(self, worker, settlements, want, types, **scope):
        settled = self._store.exchange(worker, settlements, 0, types, **scope)
        return self._store.exchange(worker, [], want, types, **scope)._replace(refused=settled.refused)


@broken
class Piecemeal(Wrapper):
    """finish_job: what the handler added is stored before the job is finished, in a transaction of its own."""

    def finish_job(self, attempt, result=None, added=()):
        info = self._store.job_info(attempt.job_id)
        if added and info is not None and info.status is Status.STARTED:
            self._store.finish_job(attempt, result, added[:-1])
            return
        self._store.finish_job(attempt, result, added)


@broken
class Stepwise(Wrapper):
    """recover: each job in a transaction of its own, the worker struck out after them."""

    def recover(self, worker, verdicts):
        put_back = []
        for attempt in self._store.held(worker):
            verdict = verdicts.get(attempt)
            outcome, *words = verdict or (Outcome.INTERRUPTED, None, None)
            self._store.exchange(worker, [Settlement(attempt, outcome, failure=words[0], evidence=words[1])], 0, ())
            put_back.append((attempt, self._store.job_info(attempt.job_id).status))
        self._store.leave(worker)
        return put_back


@broken
class Eager(Wrapper):
    """retry: the jobs before the one that is refused are retried."""

    def retry(self, job_ids):
        return [job_id for each in job_ids for job_id in self._store.retry([each])]


@broken
class Deaf(Wrapper):
    """request: the first wish stands, not the last."""

    def request(self, job_id, wish):
        info = self._store.job_info(job_id)
        return True if info is not None and info.request else self._store.request(job_id, wish)


@broken
class Careless(Wrapper):
    """prune: a dry run prunes."""

    def prune(self, older_s, *, dry_run=False):
        return self._store.prune(older_s)


@broken
class Idle(Wrapper):
    """beat: a beat of a worker counts for nothing."""

    def beat(self, worker):
        pass


@broken
class Blind(Wrapper):
    """drained: a delayed job is not waited for."""

    def drained(self, types, run=None):
        left = self._store.counts(run)
        return not left.started and not self._store.jobs_ready(types)
