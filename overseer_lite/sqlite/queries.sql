-- Every statement of the store under a name, with what it does; a blank line ends it. Named by connection.SQL.

-- ==== time and boot

-- boot: which boot the instants in the file count from
SELECT value FROM meta WHERE name = 'boot_id';

-- set_boot: note the boot
INSERT OR REPLACE INTO meta (name, value) VALUES ('boot_id', ?1);

-- rebase_delays: after a reboot, wait what the wall says is left, but never longer than asked for
UPDATE jobs SET due_us = ?1 + max(0, min(delay_us, due_wall_us - ?2)) WHERE due_us IS NOT NULL;

-- forget_job_beats: beats of another boot say nothing
UPDATE jobs SET beat_us = NULL WHERE status = 1;

-- forget_worker_beats: likewise
UPDATE workers SET beat_us = NULL, idle = 0;

-- meta: one fact about the file
SELECT value FROM meta WHERE name = ?1;

-- set_meta: note a fact about the file
INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2);

-- snapshot: a read as small as there is: from here on a transaction sees one moment
SELECT 1 FROM meta LIMIT 1;

-- ==== types

-- types: all types there are
SELECT name, key FROM types;

-- add_type: make a type known
INSERT INTO types (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING key;

-- ==== submitting

-- run: one run by its id
SELECT key, id, args, declared, submitted_wall_us FROM runs WHERE id = ?1;

-- add_run: a new run
INSERT INTO runs (id, args, declared, submitted_wall_us) VALUES (?1, ?2, ?3, ?4) RETURNING key;

-- last_job: the highest key given so far, to jobs pruned since included: none is given twice
SELECT max(coalesce((SELECT max(key) FROM jobs), 0), coalesce((SELECT value FROM meta WHERE name = 'pruned_key'), 0));

-- add_job: a new job
INSERT INTO jobs (key, id, run, name, type, priority, waiting_for, depends, due_us, due_wall_us, delay_us, args, awaited, adder)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14);

-- set_awaited: some job depends on it from now on
UPDATE jobs SET awaited = 1 WHERE key = ?1 AND awaited = 0;

-- add_dependency: a new edge
INSERT INTO dependencies (job, position, dependency, added) VALUES (?1, ?2, ?3, ?4);

-- job_key: a job's key and status
SELECT key, status FROM jobs WHERE id = ?1;

-- content: what a submitter said of a job, to compare
SELECT j.key, t.name, r.args, j.args FROM jobs j JOIN types t ON t.key = j.type JOIN runs r ON r.key = j.run WHERE j.id = ?1;

-- declared_dependencies: what a job was declared to depend on, in order
SELECT d.id FROM dependencies e JOIN jobs d ON d.key = e.dependency WHERE e.job = ?1 AND e.added = 0 ORDER BY e.position;

-- similar_ids: ids that begin alike, for a suggestion
SELECT id FROM jobs WHERE id >= ?1 AND id < ?2 LIMIT 200;

-- ==== settling

-- holder: a job as a settlement needs it
SELECT j.key, j.status, j.attempt, w.id, j.run, j.type, j.failures, j.crashes, j.interruptions, j.request, j.reserved_wall_us, j.failure
FROM jobs j LEFT JOIN workers w ON w.key = j.worker WHERE j.id = ?1;

-- settle: take a job out of started; the guard is said again, where it cannot be forgotten
UPDATE jobs SET status = ?4, worker = NULL, request = NULL, beat_us = NULL, attempt = ?5, failures = ?6, crashes = ?7,
  interruptions = ?8, failure = ?9, due_us = ?10, due_wall_us = ?11, delay_us = ?12, alone = ?13
WHERE key = ?1 AND status = 1 AND attempt = ?2 AND worker = (SELECT key FROM workers WHERE id = ?3);

-- finish: the same for the attempt's best end, by its fence alone
UPDATE jobs SET status = 2, worker = NULL, request = NULL, beat_us = NULL, failure = NULL
WHERE id = ?1 AND status = 1 AND attempt = ?2 AND worker = ?3
RETURNING id, key, reserved_wall_us, awaited;

-- finish_each: likewise for several jobs, a list of ids, that are at the same attempt
UPDATE jobs SET status = 2, worker = NULL, request = NULL, beat_us = NULL, failure = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND status = 1 AND attempt = ?2 AND worker = ?3
RETURNING id, key, reserved_wall_us, awaited;

-- holds_any: whether a worker holds anything
SELECT 1 FROM jobs INDEXED BY started WHERE status = 1 AND worker = ?1 LIMIT 1;

-- add_result: keep a result
INSERT INTO results (job, value) VALUES (?1, ?2);

-- add_attempt: a row of history
INSERT INTO attempts (job, number, worker, outcome, reserved_wall_us, ended_wall_us, ran_us, exit_code, signal)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9);

-- add_words: what an attempt left in words
INSERT INTO words (job, number, failure, output, output_bytes) VALUES (?1, ?2, ?3, ?4, ?5);

-- attempt_outcome: how an attempt was settled, if it was
SELECT worker, outcome FROM attempts WHERE job = ?1 AND number = ?2;

-- release: a job is finished: its dependents wait for one less
UPDATE jobs SET waiting_for = waiting_for - 1 WHERE key IN (SELECT job FROM dependencies WHERE dependency = ?1)
RETURNING type, waiting_for, status;

-- dependents_of: who depends on these jobs, directly, in order of submission
SELECT DISTINCT e.job, j.id, j.status FROM dependencies e JOIN jobs j ON j.key = e.job
WHERE e.dependency IN (SELECT value FROM json_each(?1)) ORDER BY e.job;

-- abort: give up a job that is not started
UPDATE jobs SET status = 4, due_us = NULL, due_wall_us = NULL, delay_us = NULL WHERE key = ?1 AND status = 0;

-- set_failure: why a job was given up
UPDATE jobs SET failure = ?2 WHERE key = ?1;

-- adders_dependents: who waits for a job that adds others, and where the next edge goes
SELECT e.job, (SELECT max(position) + 1 FROM dependencies m WHERE m.job = e.job) FROM dependencies e
WHERE e.dependency = ?1 ORDER BY e.job;

-- wait_for_more: a job depends on some more, of which so many are not finished
UPDATE jobs SET waiting_for = waiting_for + ?2, depends = depends + ?3 WHERE key = ?1;

-- has_edge: whether one job depends on another, directly
SELECT 1 FROM dependencies WHERE job = ?1 AND dependency = ?2;

-- waits_for_dependent: whether a job is, or waits for, a direct dependent of another; finished jobs wait for nobody
WITH RECURSIVE up (key) AS (
  VALUES (?1) UNION
  SELECT e.dependency FROM up JOIN jobs j ON j.key = up.key AND j.status <> 2 JOIN dependencies e ON e.job = up.key
) SELECT d.job FROM up JOIN dependencies d ON d.job = up.key AND d.dependency = ?2 LIMIT 1;

-- id_of: a job's id
SELECT id FROM jobs WHERE key = ?1;

-- ==== reserving

-- promote: delayed jobs of these types whose time has come become ready
UPDATE jobs SET due_us = NULL, due_wall_us = NULL, delay_us = NULL WHERE key IN (
  SELECT j.key FROM json_each(?1) t JOIN jobs j INDEXED BY delayed
  ON j.type = t.value AND j.status = 0 AND j.waiting_for = 0 AND j.due_us IS NOT NULL AND j.due_us <= ?2 LIMIT 1000);

-- next_due: when the next delayed job of these types is due
SELECT min(due) FROM (SELECT (SELECT due_us FROM jobs INDEXED BY delayed
  WHERE type = t.value AND status = 0 AND waiting_for = 0 AND due_us IS NOT NULL ORDER BY due_us LIMIT 1) AS due
  FROM json_each(?1) t);

-- next_due_in_run: likewise, of one run
SELECT min(due) FROM (SELECT (SELECT due_us FROM jobs INDEXED BY delayed_in_run
  WHERE run = ?2 AND type = t.value AND status = 0 AND waiting_for = 0 AND due_us IS NOT NULL ORDER BY due_us LIMIT 1) AS due
  FROM json_each(?1) t);

-- candidates: the next ready jobs, up to so many of each of these types
SELECT j.key, j.type, j.alone FROM json_each(?1) t JOIN jobs j ON j.key IN (
  SELECT r.key FROM jobs r INDEXED BY ready WHERE r.type = t.value AND r.status = 0 AND r.waiting_for = 0 AND r.due_us IS NULL
  ORDER BY r.priority DESC, r.key LIMIT ?2)
ORDER BY j.priority DESC, j.key;

-- candidates_in_run: likewise, of one run
SELECT j.key, j.type, j.alone FROM json_each(?1) t JOIN jobs j ON j.key IN (
  SELECT r.key FROM jobs r INDEXED BY ready_in_run
  WHERE r.run = ?3 AND r.type = t.value AND r.status = 0 AND r.waiting_for = 0 AND r.due_us IS NULL
  ORDER BY r.priority DESC, r.key LIMIT ?2)
ORDER BY j.priority DESC, j.key;

-- started_by_type: how many are started of each type
SELECT type, count(*) FROM jobs INDEXED BY started WHERE status = 1 GROUP BY type;

-- reserve: start the next attempt of a ready job, with its first beat
UPDATE jobs SET status = 1, attempt = attempt + 1, worker = ?2, beat_us = ?3, reserved_wall_us = ?4, alone = 0,
  due_us = NULL, due_wall_us = NULL, delay_us = NULL
WHERE key = ?1 AND status = 0 AND waiting_for = 0 AND (due_us IS NULL OR due_us <= ?5)
RETURNING key, id, run, name, type, attempt, args, failures, depends;

-- reserve_each: likewise for several jobs, a list of keys
UPDATE jobs SET status = 1, attempt = attempt + 1, worker = ?2, beat_us = ?3, reserved_wall_us = ?4, alone = 0,
  due_us = NULL, due_wall_us = NULL, delay_us = NULL
WHERE key IN (SELECT value FROM json_each(?1)) AND status = 0 AND waiting_for = 0 AND (due_us IS NULL OR due_us <= ?5)
RETURNING key, id, run, name, type, attempt, args, failures, depends;

-- run_of: a run's id and shared args
SELECT id, args FROM runs WHERE key = ?1;

-- type_name: a type's name
SELECT name FROM types WHERE key = ?1;

-- dependency_results: the results of what a job depends on, in order
SELECT d.id, r.id, d.name, t.name, v.value FROM dependencies e
JOIN jobs d ON d.key = e.dependency JOIN runs r ON r.key = d.run JOIN types t ON t.key = d.type
LEFT JOIN results v ON v.job = e.dependency WHERE e.job = ?1 ORDER BY e.position;

-- ready: ready jobs of these types
SELECT j.priority, j.key, j.id FROM json_each(?1) t JOIN jobs j ON j.key IN (
  SELECT r.key FROM jobs r INDEXED BY ready WHERE r.type = t.value AND r.status = 0 AND r.waiting_for = 0 AND r.due_us IS NULL
  ORDER BY r.priority DESC, r.key LIMIT ?2);

-- due: delayed jobs of these types whose time has come, not yet promoted
SELECT j.priority, j.key, j.id FROM json_each(?1) t JOIN jobs j INDEXED BY delayed
ON j.type = t.value AND j.status = 0 AND j.waiting_for = 0 AND j.due_us IS NOT NULL AND j.due_us <= ?2;

-- any_left: whether something is started, ready or delayed that workers of these types could run (all runs)
SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY started WHERE status = 1)
  OR EXISTS (SELECT 1 FROM json_each(?1) t WHERE
       EXISTS (SELECT 1 FROM jobs r INDEXED BY ready WHERE r.type = t.value AND r.status = 0 AND r.waiting_for = 0 AND r.due_us IS NULL)
    OR EXISTS (SELECT 1 FROM jobs d INDEXED BY delayed WHERE d.type = t.value AND d.status = 0 AND d.waiting_for = 0 AND d.due_us IS NOT NULL));

-- any_left_in_run: likewise, of one run
SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY started WHERE status = 1 AND run = ?2)
  OR EXISTS (SELECT 1 FROM json_each(?1) t WHERE
       EXISTS (SELECT 1 FROM jobs r INDEXED BY ready_in_run WHERE r.run = ?2 AND r.type = t.value AND r.status = 0 AND r.waiting_for = 0 AND r.due_us IS NULL)
    OR EXISTS (SELECT 1 FROM jobs d INDEXED BY delayed_in_run WHERE d.run = ?2 AND d.type = t.value AND d.status = 0 AND d.waiting_for = 0 AND d.due_us IS NOT NULL));

-- ==== workers and beats

-- worker: a worker by its id
SELECT key, registered, idle FROM workers WHERE id = ?1;

-- add_worker: somebody reserves by hand
INSERT INTO workers (id, beat_us) VALUES (?1, ?2) RETURNING key;

-- register: enter a worker, or renew its entry
INSERT INTO workers (id, registered, beat_us, pid, runner_pid, identity, supervisor, app, app_file, app_mtime, types, run)
VALUES (?1, (SELECT coalesce(max(registered), 0) + 1 FROM workers), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (id) DO UPDATE SET registered = iif(registered = 0, excluded.registered, registered), beat_us = excluded.beat_us, pid = excluded.pid,
  runner_pid = excluded.runner_pid, identity = excluded.identity, supervisor = excluded.supervisor, app = excluded.app,
  app_file = excluded.app_file, app_mtime = excluded.app_mtime, types = excluded.types, run = excluded.run;

-- leave: strike out a worker that holds nothing
DELETE FROM workers WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker = workers.key AND status = 1);

-- workers: all registered workers
SELECT id, pid, runner_pid, identity, supervisor, app, app_file, app_mtime, types, run, beat_us FROM workers
WHERE registered > 0 ORDER BY registered;

-- held: what a worker holds
SELECT j.id, j.attempt, w.id FROM workers w JOIN jobs j INDEXED BY started ON j.worker = w.key AND j.status = 1
WHERE w.id = ?1 ORDER BY j.key;

-- held_keys: what a worker holds, by the keys that stand in its file of steps
SELECT j.key, j.id, j.attempt, w.id FROM workers w JOIN jobs j INDEXED BY started ON j.worker = w.key AND j.status = 1
WHERE w.id = ?1 ORDER BY j.key;

-- idle_workers: who waits for a bell
SELECT id, types, run, pid FROM workers WHERE idle = 1 AND id <> ?1;

-- set_idle: a worker waits for its bell, or no longer does
UPDATE workers SET idle = ?2 WHERE key = ?1;

-- beat_worker: a worker is alive
UPDATE workers SET beat_us = ?2 WHERE id = ?1;

-- beat_job: an attempt is alive
UPDATE jobs SET beat_us = ?4 WHERE id = ?1 AND status = 1 AND attempt = ?2
  AND worker = (SELECT key FROM workers WHERE id = ?3);

-- silent: attempts that have not beaten since; no beat in this boot is for ever
SELECT j.id, j.attempt, w.id, max(coalesce(j.beat_us, -1 << 62), coalesce(w.beat_us, -1 << 62)) AS beat
FROM jobs j INDEXED BY started JOIN workers w ON w.key = j.worker
WHERE j.status = 1 AND beat < ?1 ORDER BY beat, j.key;

-- requests: wishes waiting for a worker
SELECT j.id, j.attempt, w.id, j.request FROM workers w JOIN jobs j INDEXED BY started ON j.worker = w.key AND j.status = 1
WHERE w.id = ?1 AND j.request IS NOT NULL ORDER BY j.key;

-- request: note a wish for a started job
UPDATE jobs SET request = ?2 WHERE id = ?1 AND status = 1
RETURNING (SELECT id FROM workers WHERE key = worker);

-- ==== acting

-- retry: failed or aborted back to unstarted, counts anew, attempt numbers go on
UPDATE jobs SET status = 0, failures = 0, crashes = 0, interruptions = 0, failure = NULL WHERE key = ?1 AND status IN (3, 4)
RETURNING type;

-- ==== pruning

-- ended_runs: runs (or that one) with nothing left to do, whose last attempt ended, or without any: submitted, before then
SELECT r.key, r.id, r.submitted_wall_us FROM runs r WHERE (?2 IS NULL OR r.id = ?2)
  AND NOT EXISTS (SELECT 1 FROM jobs j INDEXED BY by_run WHERE j.run = r.key AND j.status IN (0, 1))
  AND coalesce((SELECT max(a.ended_wall_us) FROM jobs j INDEXED BY by_run JOIN attempts a ON a.job = j.key
    WHERE j.run = r.key), r.submitted_wall_us) < ?1
ORDER BY r.key DESC;

-- dependent_runs: other runs that have a job which depends on one of this run
SELECT DISTINCT j.run FROM jobs d INDEXED BY by_run JOIN dependencies e ON e.dependency = d.key JOIN jobs j ON j.key = e.job
WHERE d.run = ?1 AND d.awaited = 1 AND j.run <> ?1;

-- note_pruned_key: the highest key of a run about to be pruned counts as given for ever
INSERT INTO meta (name, value) SELECT 'pruned_key', max(key) FROM jobs WHERE run = ?1 HAVING max(key) IS NOT NULL
ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value);

-- prune_words: what the run's attempts left in words
DELETE FROM words WHERE job IN (SELECT key FROM jobs WHERE run = ?1);

-- prune_attempts: its history
DELETE FROM attempts WHERE job IN (SELECT key FROM jobs WHERE run = ?1);

-- prune_results: its results
DELETE FROM results WHERE job IN (SELECT key FROM jobs WHERE run = ?1);

-- prune_dependencies: what its jobs depended on
DELETE FROM dependencies WHERE job IN (SELECT key FROM jobs WHERE run = ?1);

-- prune_jobs: its jobs
DELETE FROM jobs WHERE run = ?1;

-- prune_run: the run itself
DELETE FROM runs WHERE key = ?1;

-- ==== looking

-- job: all of one job
SELECT j.key, j.id, r.id, j.name, t.name, j.status, r.args, j.args, j.priority, j.attempt, j.failures, j.crashes,
  j.interruptions, w.id, j.failure, v.value, j.due_us, j.waiting_for, j.request, a.id
FROM jobs j JOIN runs r ON r.key = j.run JOIN types t ON t.key = j.type LEFT JOIN workers w ON w.key = j.worker
LEFT JOIN results v ON v.job = j.key LEFT JOIN jobs a ON a.key = j.adder WHERE j.id = ?1;

-- dependencies: what a job depends on, in order
SELECT d.id FROM dependencies e JOIN jobs d ON d.key = e.dependency WHERE e.job = ?1 ORDER BY e.position;

-- is_stuck: whether something a job depends on failed or was aborted
WITH RECURSIVE up (key) AS (
  SELECT dependency FROM dependencies WHERE job = ?1
  UNION SELECT e.dependency FROM up JOIN jobs j ON j.key = up.key AND j.status = 0 JOIN dependencies e ON e.job = up.key
) SELECT 1 FROM up JOIN jobs j ON j.key = up.key WHERE j.status IN (3, 4) LIMIT 1;

-- list: jobs in order of submission, without args and results
SELECT j.key, j.id, r.id, j.name, t.name, j.status, NULL, NULL, j.priority, j.attempt, j.failures, j.crashes,
  j.interruptions, w.id, j.failure, NULL, j.due_us, j.waiting_for, j.request, a.id
FROM jobs j JOIN runs r ON r.key = j.run JOIN types t ON t.key = j.type LEFT JOIN workers w ON w.key = j.worker
LEFT JOIN jobs a ON a.key = j.adder
WHERE (:run IS NULL OR j.run = (SELECT key FROM runs WHERE id = :run)) AND (:status IS NULL OR j.status = :status)
  AND (:type IS NULL OR t.name = :type) AND (:text IS NULL OR instr(j.id, :text))
ORDER BY j.key LIMIT :limit OFFSET :offset;

-- stuck: every unstarted job that something failed or aborted holds up
WITH RECURSIVE stuck (key) AS (
  SELECT e.job FROM jobs b INDEXED BY ended_badly JOIN dependencies e ON e.dependency = b.key
  JOIN jobs j ON j.key = e.job AND j.status = 0 WHERE b.status IN (3, 4)
  UNION SELECT e.job FROM stuck s JOIN dependencies e ON e.dependency = s.key JOIN jobs j ON j.key = e.job AND j.status = 0
) SELECT s.key, j.run FROM stuck s JOIN jobs j ON j.key = s.key;

-- count: jobs by status
SELECT status, count(*) FROM jobs GROUP BY status;

-- count_in_run: likewise, of one run
SELECT status, count(*) FROM jobs WHERE run = ?1 GROUP BY status;

-- count_ready: ready jobs, the due ones that are not promoted included
SELECT (SELECT count(*) FROM jobs INDEXED BY ready WHERE status = 0 AND waiting_for = 0 AND due_us IS NULL)
  + (SELECT count(*) FROM jobs INDEXED BY delayed WHERE status = 0 AND waiting_for = 0 AND due_us IS NOT NULL AND due_us <= ?1);

-- count_ready_in_run: likewise, of one run
SELECT (SELECT count(*) FROM jobs INDEXED BY ready_in_run WHERE run = ?2 AND status = 0 AND waiting_for = 0 AND due_us IS NULL)
  + (SELECT count(*) FROM jobs INDEXED BY delayed_in_run WHERE run = ?2 AND status = 0 AND waiting_for = 0 AND due_us IS NOT NULL AND due_us <= ?1);

-- attempts: a job's history
SELECT a.number, a.worker, a.outcome, a.reserved_wall_us, a.ended_wall_us, a.ran_us, a.exit_code, a.signal,
  w.failure, w.output, w.output_bytes
FROM jobs j JOIN attempts a ON a.job = j.key LEFT JOIN words w ON w.job = a.job AND w.number = a.number
WHERE j.id = ?1 ORDER BY a.number;

-- attempts_of: histories of many jobs, their ids a JSON list; without outputs, each of which may take 16 pages
SELECT j.id, a.number, a.worker, a.outcome, a.reserved_wall_us, a.ended_wall_us, a.ran_us, a.exit_code, a.signal,
  w.failure, NULL, NULL
FROM json_each(?1) i CROSS JOIN jobs j ON j.id = i.value CROSS JOIN attempts a ON a.job = j.key
LEFT JOIN words w ON w.job = a.job AND w.number = a.number
ORDER BY j.key, a.number;

-- runs: runs, newest first
SELECT key, id, args, declared, submitted_wall_us FROM runs ORDER BY key DESC LIMIT ?1;

-- ==== copying and examining

-- unstart: in a copy nobody works: what was started is unstarted, the attempt's number spent
UPDATE jobs SET status = 0, worker = NULL, request = NULL, beat_us = NULL WHERE status = 1;

-- forget_workers: likewise
DELETE FROM workers;

-- quick_check: whether the file's pages and rows are sound
PRAGMA quick_check(5);

-- integrity_check: whether the indexes agree with the tables as well
PRAGMA integrity_check(5);

-- foreign_key_check: rows that name rows which are not there
PRAGMA foreign_key_check;

-- wrong_counts: jobs whose count of what they wait for is not what their dependencies say
SELECT j.id FROM jobs j WHERE j.waiting_for <> (
  SELECT count(*) FROM dependencies e JOIN jobs d ON d.key = e.dependency WHERE e.job = j.key AND d.status <> 2) LIMIT 5;

-- worker_ids: all names workers go by
SELECT id FROM workers;
