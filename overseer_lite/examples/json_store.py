"""A store in a JSON file: the eleven verbs and no more. docs/testing.md tells how it came to keep the contract."""

import fcntl
import json
from contextlib import contextmanager, suppress

from overseer_lite import errors, failpoints, store
from overseer_lite.job import Attempt, Failure, JobInfo, Status, encode, merge_args


class JsonStore:
    capabilities = frozenset({"shared", "failpoints"})

    def __init__(self, directory, clock, crash_limit=3):
        self.path, self.clock, self.limit = directory / "jobs.json", clock, crash_limit

    @contextmanager
    def jobs(self, point=None):
        """Hand out the rows by id; keep what is changed if the transaction has a name, and nothing is raised."""
        self.now = self.clock.read()
        with open(f"{self.path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            boot, rows = json.loads(self.path.read_text()) if self.path.exists() else ("", {})
            if boot != self.now.boot_id:
                for row in rows.values():
                    left_us = max(0, min(row["delay"], row["due_wall"] - self.now.wall_us))
                    row |= {"beat": -(1 << 62), "due": self.now.boottime_us + left_us}
            yield rows
            if point or boot != self.now.boot_id:
                draft = self.path.with_suffix(".new")
                draft.write_text(json.dumps([self.now.boot_id, rows]))
                failpoints.hit(f"{point or 'beat'}.before_commit")
                draft.replace(self.path)
                failpoints.hit(f"{point or 'beat'}.after_commit")

    def held(self, rows, verb, attempt):
        row = rows.get(attempt.job_id)
        if row is None or (row["worker"], row["attempt"]) != (attempt.worker, attempt.number):
            raise store.superseded(verb, attempt, row and self.info(rows, row))
        return row

    def move(self, row, status, delay_s=0.0, **more):
        us = round(delay_s * 1e6)
        row |= {"status": status, "worker": None, "delay": us, **more}
        row |= {"due": self.now.boottime_us + us, "due_wall": self.now.wall_us + us}

    def ready(self, rows, row):
        finished = all(rows[key]["status"] == "finished" for key in row["dependencies"])
        return row["status"] == "unstarted" and finished and row["due"] <= self.now.boottime_us

    def stuck(self, rows, row):
        above = [rows[key] for key in row["dependencies"] if row["status"] == "unstarted"]
        return any(each["status"] in ("failed", "aborted") or self.stuck(rows, each) for each in above)

    def info(self, rows, row):
        seen = {field: row[field] for field in JobInfo._fields} | {"stuck": self.stuck(rows, row)}
        seen |= {"status": Status(row["status"]), "dependencies": tuple(row["dependencies"])}
        seen |= {"failure": row["failure"] and Failure(*row["failure"]), "ready": self.ready(rows, row)}
        seen |= {"waiting_for": sum(rows[key]["status"] != "finished" for key in row["dependencies"])}
        return JobInfo(**seen | {"due_in_s": max(0, row["due"] - self.now.boottime_us) / 1e6 or None})

    def install(self): ...

    def transact_graph(self, graph):
        resolved = graph.validate()
        with self.jobs("submit") as rows:
            new = {job_id: self.row(graph, job) for job_id, job in zip(resolved.ids, graph.jobs, strict=True)}
            if new.keys() & rows.keys():
                differ = [key for key in new if key not in rows or rows[key]["content"] != new[key]["content"]]
                if differ:
                    raise errors.GraphConflictError([f"job {job_id!r} is not stored like this" for job_id in differ])
                return store.Submitted([], resolved.ids)
            for number, outside in resolved.external.items():
                for job_id in {*outside} - rows.keys():
                    raise errors.UnknownDependencyError(resolved.ids[number], job_id)
            rows.update(new)
            return store.Submitted(resolved.ids, [])

    def row(self, graph, job):
        args, above = json.loads(merge_args(graph.args_json, job.args_json)), graph.dependency_ids(job)
        row = dict.fromkeys(JobInfo._fields) | {"attempt": 0, "failures": 0, "crashes": 0, "interruptions": 0}
        row |= {"id": graph.job_id(job), "run": graph.id, "name": job.name, "type": job.type, "priority": job.priority}
        row |= {"args": args, "dependencies": above, "content": json.dumps([job.type, args, above], sort_keys=True)}
        self.move(row, "unstarted", job.delay_s)
        return row

    def job_info(self, job_id):
        with self.jobs() as rows:
            return self.info(rows, rows[job_id]) if job_id in rows else None

    def jobs_ready(self, types=None, limit=100):
        with self.jobs() as rows:
            ready = [row for row in rows.values() if self.ready(rows, row) and (types is None or row["type"] in types)]
            return [row["id"] for row in sorted(ready, key=lambda row: -row["priority"])][:limit]

    def reserve_job(self, worker, job_id):
        with self.jobs("exchange") as rows:
            if (row := rows.get(job_id)) is None or not self.ready(rows, row):
                return None
            self.move(row, "started", worker=worker, attempt=row["attempt"] + 1, beat=self.now.monotonic_us)
            return Attempt(job_id, row["attempt"], worker)

    def heartbeat_job(self, attempt):
        with self.jobs("beat") as rows:
            self.held(rows, "heartbeat", attempt)["beat"] = self.now.monotonic_us

    def finish_job(self, attempt, result=None, added=()):
        if added:
            raise errors.InvalidInputError("This store takes no jobs from handlers. Submit them with the graph.")
        encode(result, "the result")
        with self.jobs("exchange") as rows:
            self.move(self.held(rows, "finish", attempt), "finished", result=result, failure=None)

    def fail_job(self, attempt, failure=None, retry_in_s=None):
        with self.jobs("exchange") as rows:
            row = self.held(rows, "fail", attempt)
            row |= {"failures": row["failures"] + 1, "failure": failure or row["failure"]}
            self.move(row, "failed" if retry_in_s is None else "unstarted", retry_in_s or 0)

    def reset_job(self, attempt, delay_s=0.0, crashed=False):
        with suppress(errors.SupersededError), self.jobs("exchange") as rows:
            row = self.held(rows, "reset", attempt)
            self.move(row, "unstarted", delay_s, crashes=row["crashes"] + crashed)
            if crashed and row["crashes"] == self.limit:
                self.move(row, "failed", failure=Failure("crash", f"crashed {self.limit} times, which is the limit"))
            return True
        return False

    def abort_job(self, job_id, failure=None, attempt=None):
        with self.jobs("exchange" if attempt else "act") as rows:
            row = self.held(rows, "abort", attempt) if attempt else rows.get(job_id)
            if row is None:
                raise errors.UnknownJobError(job_id)
            if attempt is None and row["status"] != "unstarted":
                return []
            self.move(row, "aborted", failure=failure or row["failure"])
            aborted, level = [job_id], [job_id]
            while level := [key for key, row in rows.items() if {*level} & {*row["dependencies"]}]:
                for key in (key for key in level if rows[key]["status"] == "unstarted"):
                    self.move(rows[key], "aborted")
                    aborted.append(key)
            return aborted

    def jobs_dead(self, silent_for_s):
        with self.jobs() as rows:
            since = self.now.monotonic_us - round(silent_for_s * 1e6)
            silent = [row for row in rows.values() if row["worker"] and row["beat"] < since]
            silent.sort(key=lambda row: row["beat"])
            return [Attempt(row["id"], row["attempt"], row["worker"]) for row in silent]
