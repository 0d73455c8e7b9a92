"""Run a graph of Python jobs on one machine: nothing is lost, nothing runs twice."""
