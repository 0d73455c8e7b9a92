"""What worker and runner say to each other."""

from __future__ import annotations

import pytest

from overseer_lite.job import Outcome
from overseer_lite.runner.protocol import Frames, finished, finished_frame, look_frame


def test_messages_before_nonsense_are_still_believed():
    """A handler that writes into the channel must not undo the reported end of the job before it."""
    messages = Frames().feed(finished_frame(6, b"") + b"\xff\xff\x00 this is no frame")
    kind, ended = next(messages)
    assert (kind, ended.token, ended.outcome) == ("finished", 6, Outcome.FINISHED)
    with pytest.raises(ValueError, match="no frame"):
        next(messages)


def test_a_message_in_pieces_is_given_when_it_is_whole():
    """A stream cuts where it likes."""
    frames = Frames()
    data = finished_frame(1, b'"a"') + look_frame(7) + finished_frame(2, b'"b"')
    heard = [message for at in range(len(data)) for message in frames.feed(data[at : at + 1])]
    assert heard == [("finished", finished(1, b'"a"')), ("look", 7), ("finished", finished(2, b'"b"'))]
