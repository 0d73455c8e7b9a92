"""The streams of a runner: what one handler does to them is no other's loss."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "deed",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "os.close(1); os.close(2)",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
        "threading.Thread(target=time.sleep, args=(60,)).start(); sys.stdout.close()",
    ],
)
def test_a_handler_that_closes_or_moves_its_streams_harms_no_later_one(crew, deed):
    """It has finished; whoever comes next prints, opens files, and its output is in its history."""
    crew.write_app(
        "@handlers\n"
        "def closes(job):\n"
        f"    {deed}\n"
        "@handlers\n"
        "def innocent(job):\n"
        "    with open(os.path.join(HERE, 'mine'), 'w') as file:\n"
        "        print('hello')\n"
        "        return file.fileno()\n"
    )
    crew.submit({"closes": [], "innocent": ["closes"]})
    assert crew.start(1, drain=True).wait() == 0
    assert (crew.outcomes("closes"), crew.outcomes("innocent")) == (["finished"], ["finished"])
    (record,) = crew.attempts("innocent")
    assert (record.output, (crew.directory / "mine").read_text()) == ("hello\n", "")
    assert crew.job("innocent").result > 2
