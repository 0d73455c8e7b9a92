"""The SQLite wing: one WAL file, many processes, one writer at a time behind a gate."""
