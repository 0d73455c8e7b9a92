"""What a supervisor's turn leaves out, so that a death is not kept waiting."""

from __future__ import annotations

import os

import pytest

from overseer_lite.supervisor import standstill
from overseer_lite.supervisor.member import Member


def test_the_table_of_locks_is_read_now_and_then_while_all_is_quiet_and_seldom_while_it_is_not(monkeypatch, tmp_path):
    """Each reading takes 7 ms."""
    now, read = [100.0], []
    monkeypatch.setattr(standstill.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(standstill, "flock_holder", lambda path: read.append((now[0], path)))
    watch = standstill.GateWatch(str(tmp_path))
    for step in range(41):  # ten seconds, the first of which nothing happens
        now[0] = 100.0 + step / 4
        watch.look(quiet=step < 4)

    assert [at for at, _path in read] == [100.0, 100.5, 105.5]
    assert {path for _at, path in read} == {str(tmp_path / "gate")}


@pytest.mark.parametrize("said", [b"", b"r", b"rj ", b" out of memory"])
def test_a_member_that_has_hung_up_is_known(said):
    """Its pipe stays readable for ever: whoever waited for it would turn and turn."""
    life_read, life = os.pipe()
    report, report_write = os.pipe()
    os.set_blocking(report, False)
    member = Member(0, "w1", None, life, report)
    os.write(report_write, said)
    member.listen()
    assert not member.hung_up

    os.close(report_write)
    member.listen()

    assert member.hung_up
    assert (member.ready, member.begun_job, member.words) == (
        b"r" in said[:2],
        b"j" in said[:2],
        said.partition(b" ")[2],
    )
    member.close()
    os.close(life_read)
