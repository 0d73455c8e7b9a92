"""What the pages presume is no part of this suite."""

collect_ignore = ["given"]
