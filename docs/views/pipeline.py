"""The nightly pipeline of the pictures: sixty stations, one of which has bad readings; one job's process is killed."""

import os
import random
import signal
import time

import overseer_lite as overseer

handlers = overseer.Handlers()
BAD, KILLED = 23, 11


@handlers
def stations(job):
    """Find the stations that reported."""
    print("60 stations reported")
    for number in range(60):
        job.add("clean", name=f"clean-{number:02}", args={"station": number})


@handlers(retries=2, backoff=0.5, timeout=60)
def clean(job):
    """Clean the readings of a station; here it only takes time."""
    number = job.args["station"]
    chance = random.Random(number)
    for done, step in enumerate(("read", "sort", "smooth", "write")):
        job.progress(done / 4, step)
        time.sleep(chance.uniform(0.02, 0.3))
        if number == KILLED and job.attempt == 1 and step == "smooth":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == BAD and step == "sort" and not os.path.exists("mended"):
            print(f"station {number}: 1,440 readings, the last at 04:10")
            raise ValueError(f"station {number}: reading -999 at 04:10")
    return {"readings": 1440}


@handlers
def merge(job):
    """Add up what the stations have."""
    return sum(found["readings"] for found in job.results.of("clean"))


@handlers
def report(job):
    """Write the day's page."""
    print(f"{job.results['merge']:,} readings")


graph = {"stations": [], "merge": ["stations"], "report": ["merge"]}
