"""Chaos: the promises P1 to P9 under faults, driven through the command line, judged from an append-only log.

python -m tests.chaos              the small run, part of .ci/run
python -m tests.chaos --release    the large one: seeded, resumable, its figures as JSON lines
"""
