"""The README's pipeline: find the work, do it in parallel, merge what came out. Here it counts primes."""

import overseer_lite as overseer

handlers = overseer.Handlers()


@handlers
def partitions(job):
    for p in range(8):
        job.add("count", name=f"count-{p}", args={"first": p * 12_500, "last": (p + 1) * 12_500})


@handlers(retries=2, timeout=60)
def count(job):
    candidates = range(max(2, job.args["first"]), job.args["last"])
    return {"primes": sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in candidates)}


@handlers
def merge(job):
    return sum(found["primes"] for found in job.results.of("count"))


graph = {"partitions": [], "merge": ["partitions"]}
