"""A stop-watch around the functions in which a job's time goes, put there when their module is imported.

What a function takes counts for its stage, less what an inner one took; both the wall and this process's CPU. A wrapped
call costs about 1.5 us itself; most are made once a group.
"""

import functools
import json
import time

from after import after_import

#: module, owner ("" is the module itself), name, stage
WORKER = [
    ("overseer_lite.worker.loop", "Worker", "_wait", "wake: wait, bell, look round"),
    ("overseer_lite.worker.loop", "Worker", "work_once", "wake: wait, bell, look round"),
    ("overseer_lite.worker.loop", "Worker", "_gather", "settle: gather ends"),
    ("overseer_lite.worker.loop", "Worker", "_committed", "settle: gather ends"),
    ("overseer_lite.worker.loop", "Worker", "_give", "hand over"),
    ("overseer_lite.worker.loop", "Worker", "_exchange", "exchange: around the transaction"),
    ("overseer_lite.sqlite.store", "SqliteStore", "exchange", "exchange: around the transaction"),
    ("overseer_lite.sqlite.gate", "Gate", "acquire", "exchange: the gate"),
    ("overseer_lite.sqlite.connection", "_Write", "__enter__", "exchange: begin"),
    ("overseer_lite.sqlite.connection", "_Write", "__exit__", "exchange: commit"),
    ("overseer_lite.sqlite.settle", "", "finish_many", "settle: statements"),
    ("overseer_lite.sqlite.settle", "", "settle", "settle: statements"),
    ("overseer_lite.sqlite.reserve", "", "reserve", "reserve: statements"),
    ("overseer_lite.sqlite.store", "SqliteStore", "_ring", "wake: ring others"),
]
RUNNER = [
    ("overseer_lite.runner.child", "_Runner", "_next_token", "wake: wait for a token"),
    ("overseer_lite.runner.child", "_Runner", "_payload_of", "hand over"),
    ("overseer_lite.runner.child", "_Runner", "_run", "settle: say how it ended"),
    ("overseer_lite.runner.child", "_Runner", "_execute", "handler"),
]

_spent = {}  # stage: [wall ns, CPU ns, calls]
_stack = []


def _wrap(function, stage):
    spent = _spent.setdefault(stage, [0, 0, 0])
    wall, cpu = time.perf_counter_ns, time.process_time_ns

    @functools.wraps(function)
    def timed(*arguments, **named):
        _stack.append([0, 0])
        wall_begun, cpu_begun = wall(), cpu()
        try:
            return function(*arguments, **named)
        finally:
            wall_ns, cpu_ns = wall() - wall_begun, cpu() - cpu_begun
            inner = _stack.pop()
            spent[0] += wall_ns - inner[0]
            spent[1] += cpu_ns - inner[1]
            spent[2] += 1
            if _stack:
                _stack[-1][0] += wall_ns
                _stack[-1][1] += cpu_ns

    return timed


def _watch(watched):
    def loaded(module):
        for name, owner, function, stage in watched:
            if name == module.__name__:
                holder = getattr(module, owner) if owner else module
                setattr(holder, function, _wrap(getattr(holder, function), stage))

    after_import({each[0] for each in watched}, loaded)


def install(role, path):
    """Watch this process; return what is to be called at its end."""
    _watch(WORKER if role == "worker" else RUNNER)

    def leave():
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"stages": _spent, "cpu_ns": time.process_time_ns()}, file)

    return leave
