"""Apps to copy. Each is a module with `handlers` and a `graph`, as yours will be; nothing here is imported by the library."""
