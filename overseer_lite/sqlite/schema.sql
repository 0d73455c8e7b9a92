-- The whole of a store. Integers inside (10^6 jobs and edges: 4.3 s and 56 MiB; with text keys 5.9 s and 103 MiB).
-- Instants are microseconds: *_us of the boot's clocks (which boot: meta.boot_id), *_wall_us since 1970.
-- Status codes: 0 unstarted, 1 started, 2 finished, 3 failed, 4 aborted (the table in sqlite/codes.py).

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE types (
  key  INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE runs (
  key               INTEGER PRIMARY KEY AUTOINCREMENT,
  id                TEXT NOT NULL UNIQUE,
  args              TEXT,                       -- shared by its jobs, whose own args win
  declared          INTEGER NOT NULL,           -- jobs it was submitted with; handlers may add more
  submitted_wall_us INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
  key         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: a job may name a worker long gone
  id          TEXT NOT NULL UNIQUE,
  registered  INTEGER NOT NULL DEFAULT 0,        -- order of registration; 0: somebody reserved by hand under this name
  idle        INTEGER NOT NULL DEFAULT 0,        -- 1: it asked, there was nothing, it waits for its bell
  beat_us     INTEGER,                           -- monotonic; NULL: in another boot
  pid         INTEGER NOT NULL DEFAULT 0,
  runner_pid  INTEGER,
  identity    TEXT,
  supervisor  TEXT,
  app         TEXT NOT NULL DEFAULT '',
  app_file    TEXT NOT NULL DEFAULT '',
  app_mtime   REAL NOT NULL DEFAULT 0,
  types       TEXT NOT NULL DEFAULT '[]',        -- JSON object: name to limit, null for none; or a list of names
  run         TEXT                               -- the run it is confined to
) STRICT;

CREATE TABLE jobs (
  key           INTEGER PRIMARY KEY,             -- order of submission
  id            TEXT NOT NULL UNIQUE,
  run           INTEGER NOT NULL REFERENCES runs (key),
  name          TEXT,                            -- NULL: the id is 'run/name'
  type          INTEGER NOT NULL REFERENCES types (key),
  priority      INTEGER NOT NULL DEFAULT 0,
  status        INTEGER NOT NULL DEFAULT 0 CHECK (status BETWEEN 0 AND 4),
  waiting_for   INTEGER NOT NULL DEFAULT 0 CHECK (waiting_for >= 0),  -- dependencies not finished
  depends       INTEGER NOT NULL DEFAULT 0,      -- dependencies in all: 0 saves the look-ups
  awaited       INTEGER NOT NULL DEFAULT 0,      -- 1: some job depends on it; 0 saves the look-up when it finishes
  attempt       INTEGER NOT NULL DEFAULT 0,
  failures      INTEGER NOT NULL DEFAULT 0,
  crashes       INTEGER NOT NULL DEFAULT 0,
  interruptions INTEGER NOT NULL DEFAULT 0,
  worker        INTEGER REFERENCES workers (key),
  alone         INTEGER NOT NULL DEFAULT 0,      -- 1: it was handed back, nothing is reserved with it next time
  request       TEXT CHECK (request IN ('abort', 'reset')),
  beat_us          INTEGER,                      -- monotonic; NULL: in another boot
  reserved_wall_us INTEGER,
  due_us        INTEGER,                         -- boot time; NULL: its time has come
  due_wall_us   INTEGER,                         -- the same by the wall, to bridge a reboot
  delay_us      INTEGER,                         -- as asked for: after a reboot it waits no longer than this
  args          TEXT,
  failure       TEXT,
  adder         INTEGER REFERENCES jobs (key),   -- whose handler added it, always of the same run; NULL: it was submitted
  CHECK ((status = 1) = (worker IS NOT NULL)),
  CHECK (status <> 1 OR (waiting_for = 0 AND due_us IS NULL)),
  CHECK ((due_us IS NULL) = (delay_us IS NULL))
) STRICT;

-- Ready: what may be reserved, type first, so that a worker never reads past jobs it cannot take. Delayed jobs enter
-- when they are due. The key follows by itself: first in, first out within a priority.
CREATE INDEX ready ON jobs (type, priority DESC) WHERE status = 0 AND waiting_for = 0 AND due_us IS NULL;
CREATE INDEX ready_in_run ON jobs (run, type, priority DESC) WHERE status = 0 AND waiting_for = 0 AND due_us IS NULL;
CREATE INDEX delayed ON jobs (type, due_us) WHERE status = 0 AND waiting_for = 0 AND due_us IS NOT NULL;
CREATE INDEX delayed_in_run ON jobs (run, type, due_us) WHERE status = 0 AND waiting_for = 0 AND due_us IS NOT NULL;
CREATE INDEX started ON jobs (worker, type) WHERE status = 1;
CREATE INDEX ended_badly ON jobs (run) WHERE status IN (3, 4);
CREATE INDEX by_run ON jobs (run);

CREATE TABLE dependencies (
  job        INTEGER NOT NULL REFERENCES jobs (key),
  position   INTEGER NOT NULL,                   -- declared order; those a handler added come last
  dependency INTEGER NOT NULL REFERENCES jobs (key),
  added      INTEGER NOT NULL DEFAULT 0,         -- 1: by a handler, not by the graph
  PRIMARY KEY (job, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependents ON dependencies (dependency, job);

CREATE TABLE results (
  job   INTEGER PRIMARY KEY REFERENCES jobs (key),
  value TEXT NOT NULL
) STRICT;

-- History: one row an attempt, written when it is settled.
CREATE TABLE attempts (
  job              INTEGER NOT NULL REFERENCES jobs (key),
  number           INTEGER NOT NULL,
  worker           TEXT NOT NULL,
  outcome          INTEGER NOT NULL,
  reserved_wall_us INTEGER NOT NULL,
  ended_wall_us    INTEGER NOT NULL,
  ran_us           INTEGER,
  exit_code        INTEGER,
  signal           INTEGER,
  PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

-- What an attempt left in words; most leave none, so it stands apart and keeps the history narrow.
CREATE TABLE words (
  job          INTEGER NOT NULL REFERENCES jobs (key),
  number       INTEGER NOT NULL,
  failure      TEXT,
  output       TEXT,
  output_bytes INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, number)
) STRICT;
