"""What watches from outside: a failed attempt may be reported somewhere, and nothing here is needed to run jobs."""
