"""A store in a JSON file: the eleven verbs and no more. docs/testing.md tells how it came to keep the contract."""

import fcntl
import json
import os
from contextlib import contextmanager

from overseer_lite import errors, failpoints
from overseer_lite.job import Attempt, Failure, JobInfo, Status, encode, merge_args
from overseer_lite.store import Submitted, superseded


class JsonStore:
    capabilities = frozenset({"shared", "failpoints"})

    def __init__(self, path, clock, crash_limit):
        self.path, self.clock, self.crash_limit = path, clock, crash_limit

    @contextmanager
    def jobs(self, point=None):
        """Hand out the rows by id; keep what is changed if the transaction has a name, and nothing is raised."""
        self.now = self.clock.read()
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            boot, rows = json.loads(self.path.read_text()) if self.path.exists() else ("", {})
            if boot != self.now.boot_id:
                self.carry_over(rows)
            yield rows
            if point or boot != self.now.boot_id:
                draft = self.path.with_suffix(".new")
                draft.write_text(json.dumps([self.now.boot_id, rows]))
                failpoints.hit(f"{point or 'beat'}.before_commit")
                os.replace(draft, self.path)
        if point:
            failpoints.hit(f"{point}.after_commit")

    def carry_over(self, rows):
        for row in rows.values():
            row["beat"] = -(1 << 62)  # who beat in another boot is silent for ever
            if row["due"]:
                row["due"] = self.now.boottime_us + max(0, min(row["delay"], row["due_wall"] - self.now.wall_us))

    @contextmanager
    def held(self, verb, attempt, point="exchange"):
        with self.jobs(point) as rows:
            row = rows.get(attempt.job_id)
            if row is None or (row["worker"], row["attempt"]) != (attempt.worker, attempt.number):
                raise superseded(verb, attempt, row and self.info(rows, attempt.job_id))
            yield rows, row

    def move(self, row, status, failure=None, delay_s=0.0):
        row |= {"status": status, "worker": None, "failure": failure or row["failure"], **self.due(delay_s)}

    def due(self, delay_s):
        us = round(delay_s * 1e6)
        return {"delay": us, "due": us and self.now.boottime_us + us, "due_wall": us and self.now.wall_us + us}

    def ready(self, rows, row):
        return row["status"] == "unstarted" and not waiting_for(rows, row) and row["due"] <= self.now.boottime_us

    def info(self, rows, job_id):
        row = rows[job_id]
        due_in_s = max(0, row["due"] - self.now.boottime_us) / 1e6 if row["status"] == "unstarted" else 0
        seen = {field: row[field] for field in JobInfo._fields if field in row}
        seen |= {"id": job_id, "status": Status(row["status"]), "dependencies": tuple(row["dependencies"])}
        seen |= {"failure": row["failure"] and Failure(*row["failure"]), "due_in_s": due_in_s or None}
        seen |= {"ready": self.ready(rows, row), "stuck": stuck(rows, row), "waiting_for": waiting_for(rows, row)}
        return JobInfo(**seen, interruptions=0, request=None)

    def install(self): ...

    def transact_graph(self, graph):
        resolved = graph.validate()
        with self.jobs("submit") as rows:
            new = {job_id: self.row(graph, job) for job_id, job in zip(resolved.ids, graph.jobs, strict=True)}
            if not new.keys() & rows.keys():
                for number, outside in resolved.external.items():
                    for job_id in {*outside} - rows.keys():
                        raise errors.UnknownDependencyError(resolved.ids[number], job_id)
                rows.update(new)
                return Submitted(resolved.ids, [])
            differ = [job_id for job_id in new if job_id not in rows or content(rows[job_id]) != content(new[job_id])]
            if differ:
                raise errors.GraphConflictError([f"job {job_id!r} is not stored like this" for job_id in differ])
            return Submitted([], resolved.ids)

    def row(self, graph, job):
        args = json.loads(merge_args(graph.args_json, job.args_json))
        row = {"run": graph.id, "name": job.name, "type": job.type, "priority": job.priority, "status": "unstarted"}
        row |= dict.fromkeys(["attempt", "failures", "crashes"], 0) | dict.fromkeys(["worker", "failure", "result"])
        return row | {"args": args, "dependencies": graph.dependency_ids(job), "beat": None, **self.due(job.delay_s)}

    def job_info(self, job_id):
        with self.jobs() as rows:
            return self.info(rows, job_id) if job_id in rows else None

    def jobs_ready(self, types=None, limit=100):
        with self.jobs() as rows:
            ready = [key for key, row in rows.items() if self.ready(rows, row)]
            ready = [key for key in ready if types is None or rows[key]["type"] in types]
            return sorted(ready, key=lambda key: -rows[key]["priority"])[:limit]

    def reserve_job(self, worker, job_id):
        with self.jobs("exchange") as rows:
            row = rows.get(job_id)
            if row is None or not self.ready(rows, row):
                return None
            self.move(row, "started")
            row |= {"worker": worker, "attempt": row["attempt"] + 1, "beat": self.now.monotonic_us}
            return Attempt(job_id, row["attempt"], worker)

    def heartbeat_job(self, attempt):
        with self.held("heartbeat", attempt, "beat") as (_rows, row):
            row["beat"] = self.now.monotonic_us

    def finish_job(self, attempt, result=None, added=()):
        if added:
            raise errors.InvalidInputError("This store takes no jobs from handlers. Submit them with the graph.")
        encode(result, "the result")
        with self.held("finish", attempt) as (_rows, row):
            self.move(row, "finished")
            row |= {"result": result, "failure": None}

    def fail_job(self, attempt, failure=None, retry_in_s=None):
        with self.held("fail", attempt) as (_rows, row):
            row["failures"] += 1
            self.move(row, "failed" if retry_in_s is None else "unstarted", failure, retry_in_s or 0)

    def reset_job(self, attempt, delay_s=0.0, crashed=False):
        try:
            with self.held("reset", attempt) as (_rows, row):
                row["crashes"] += crashed
                self.move(row, "unstarted", None, delay_s)
                if crashed and row["crashes"] == self.crash_limit:
                    self.move(row, "failed", Failure("crash", f"crashed {self.crash_limit} times, which is the limit"))
        except errors.SupersededError:
            return False
        return True

    def abort_job(self, job_id, failure=None, attempt=None):
        if attempt is not None:
            with self.held("abort", attempt) as (rows, _row):
                return self.abort(rows, job_id, failure)
        with self.jobs("act") as rows:
            if job_id not in rows:
                raise errors.UnknownJobError(job_id)
            return self.abort(rows, job_id, failure) if rows[job_id]["status"] == "unstarted" else []

    def abort(self, rows, job_id, failure):
        self.move(rows[job_id], "aborted", failure)
        aborted, level, seen = [job_id], {job_id}, {job_id}
        while level := {key for key, row in rows.items() if level & {*row["dependencies"]}} - seen:
            seen |= level
            aborted += [key for key in rows if key in level and rows[key]["status"] == "unstarted"]
            for key in aborted[1:]:
                self.move(rows[key], "aborted")
        return aborted

    def jobs_dead(self, silent_for_s):
        with self.jobs() as rows:
            since = self.now.monotonic_us - round(silent_for_s * 1e6)
            silent = [key for key, row in rows.items() if row["worker"] and row["beat"] < since]
            silent.sort(key=lambda key: rows[key]["beat"])
            return [Attempt(key, rows[key]["attempt"], rows[key]["worker"]) for key in silent]


def waiting_for(rows, row):
    return sum(rows[above]["status"] != "finished" for above in row["dependencies"])


def stuck(rows, row):
    above = [rows[key] for key in row["dependencies"]]
    bad = any(each["status"] in ("failed", "aborted") or stuck(rows, each) for each in above)
    return row["status"] == "unstarted" and bad


def content(row):
    return json.dumps([row["type"], row["args"], row["dependencies"]], sort_keys=True)


def factory(directory, clock, crash_limit=3):
    return JsonStore(directory / "jobs.json", clock, crash_limit)
