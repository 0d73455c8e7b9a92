"""Comes first in every worker and runner that a bench starts with `BENCH_PROBE` set: probes from outside the product.

gate: the longest wait for the gate, of each worker. stages: the seconds spent in each stage of a job's walk.
cprofile: the interpreter's own profile. Each process leaves a file in `BENCH_OUT` at its end.
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

        profile = cProfile.Profile()
        profile.enable()

        def leave():
            profile.disable()
            profile.dump_stats(path)
    elif probe == "stages":
        import stages

        leave = stages.install(role, path)
    else:
        import gc
        import json

        def leave():
            gates = [each for each in gc.get_objects() if type(each).__name__ == "Gate"]
            with open(path, "w", encoding="ascii") as file:
                json.dump(max((each.longest_wait_s for each in gates), default=0.0), file)

    atexit.register(leave)


if os.environ.get("BENCH_PROBE") and _role():
    _begin(os.environ["BENCH_PROBE"], os.environ["BENCH_OUT"], _role())
