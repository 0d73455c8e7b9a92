"""Profiles: what tells a double that a worker is dead, and after how long; the timing contract of what it stands for."""

from __future__ import annotations

from typing import Final, NamedTuple

from overseer_lite.errors import InvalidInputError, nearest


class Profile(NamedTuple):
    """How deaths are found.

    Attributes:
        name: For people.
        kernel: By the kernel's word, as on one machine, at once. Otherwise by silence alone, as a store must that
            spans machines: then the fence is all that protects from those who were merely slow.
        heartbeat_interval_s: Seconds between two beats.
        tolerance: How many beats may fail.
    """

    name: str
    kernel: bool
    heartbeat_interval_s: float
    tolerance: int

    @property
    def silent_for_s(self) -> float:
        """Seconds without a beat after which a worker is silent."""
        return self.heartbeat_interval_s * self.tolerance


def lease(heartbeat_interval_s: float = 10.0, tolerance: int = 5) -> Profile:
    """Return the profile of a distributed store with that interval and tolerance."""
    if not (heartbeat_interval_s > 0 and isinstance(tolerance, int) and tolerance >= 1):
        raise InvalidInputError(
            f"A lease of {heartbeat_interval_s!r} s times {tolerance!r} cannot be kept. Give an interval over 0 and a "
            "whole tolerance of at least 1."
        )
    return Profile("lease", False, float(heartbeat_interval_s), tolerance)


#: By name. `overseer` has the figures of Overseer 0.9.0, the distributed store that this one re-imagines.
PROFILES: Final = {
    "local": Profile("local", True, 10.0, 5),
    "lease": lease(),
    "overseer": lease(60.0, 5)._replace(name="overseer"),
}


def profile_of(value: str | Profile) -> Profile:
    """Return a profile by its name, or itself.

    Raises:
        InvalidInputError: There is none of that name.
    """
    if isinstance(value, Profile):
        return value
    if value not in PROFILES:
        near = nearest(value, PROFILES)
        hint = (
            f"Did you mean {near!r}?" if near else f"There are {', '.join(PROFILES)}, and `lease(interval, tolerance)`."
        )
        raise InvalidInputError(f"There is no profile {value!r}. {hint}")
    return PROFILES[value]
