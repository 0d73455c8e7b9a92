"""Comes first in every worker and runner that a bench starts with `BENCH_PROBE` set: probes from outside the product.

gate: the longest wait for the gate, of each worker. stages: the seconds spent in each stage of a job's walk.
cprofile: the interpreter's own profile, of CPU time. Each process leaves a file in `BENCH_OUT` at its end.
"""

import os
import sys


def _role():
    words = " ".join(sys.orig_argv)
    return "runner" if "overseer_lite.runner" in words else "worker" if "overseer_lite.worker" in words else None


def _begin(probe, out, role):
    import atexit

    path = os.path.join(out, f"{role}.{os.getpid()}")
    if probe == "cprofile":
        import cProfile
        import time

        profile = cProfile.Profile(time.process_time)  # CPU alone: by the wall all one sees is waiting
        profile.enable()

        def leave():
            profile.disable()
            profile.dump_stats(path)
    elif probe == "stages":
        import stages

        leave = stages.install(role, path)
    else:
        import json

        from after import after_import

        waits = [0.0]

        def watch(module):
            close = module.Gate.close

            def closed(gate):
                waits.append(gate.longest_wait_s)
                close(gate)

            module.Gate.close = closed

        after_import({"overseer_lite.sqlite.gate"}, watch)

        def leave():
            with open(path, "w", encoding="ascii") as file:
                json.dump(max(waits), file)

    atexit.register(leave)


if os.environ.get("BENCH_PROBE") and _role():
    _begin(os.environ["BENCH_PROBE"], os.environ["BENCH_OUT"], _role())
