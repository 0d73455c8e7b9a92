"""The command line: argv to calls, and what comes back to text. The only room that prints.

click is imported here and nowhere else; rich only where a terminal is drawn on. The modules of commands (`work`,
`look`, `act`, `demo`) are imported when one of their commands is asked for, so that `status` starts quickly.
"""
