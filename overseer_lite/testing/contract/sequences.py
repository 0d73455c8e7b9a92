"""Any sequence of verbs: c270 to c279."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from overseer_lite.testing.contract.clauses import Clauses

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore

STEPS: Final = 40


class SequenceClauses(Clauses):
    """Any sequence of verbs: c270 to c279."""

    #: How many sequences are tried.
    sequences = 25
    #: Whether the shortest sequence is looked for that fails, which takes a minute: for those who want to know no more than
    #: whether one does.
    shrink = True

    def test_c270_any_sequence_of_verbs_leaves_the_store_as_the_model_says(self) -> None:
        """What each verb returns, and all that can be seen after it, is what a plain model says: sequences of up to 40.

        The same sequences each time. What fails is shown as the shortest sequence found that does.
        """
        hypothesis = pytest.importorskip("hypothesis", reason="the sequences are made by hypothesis, which is not here")
        from hypothesis.stateful import run_state_machine_as_test

        from overseer_lite.testing.machine import StoreMachine

        clauses = self
        phases = [hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if self.shrink else [])]

        class Machine(StoreMachine):
            def make_store(self, directory: Path, clock: Clock) -> FullStore:
                return clauses.make_store(directory, clock)

        run_state_machine_as_test(
            Machine,
            settings=hypothesis.settings(
                derandomize=True,
                database=None,
                phases=phases,
                deadline=None,
                max_examples=self.sequences,
                stateful_step_count=STEPS,
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
