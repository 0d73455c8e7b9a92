"""The pictures in the README: what a terminal shows, recorded from the program itself by `python -m docs.views`."""
