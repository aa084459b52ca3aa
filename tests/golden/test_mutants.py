"""Every mistake of `mutants.py` can still be made, and is undone."""

from tests.golden.mutants import CLEANER, ROUNDS, Mutant, mistaken


def test_every_mistake_can_be_made_and_is_undone() -> None:
    for mutants in (CLEANER, *ROUNDS):
        right = [_code(m) for m in mutants]
        with mistaken(mutants):
            assert all(_code(m) is not code for m, code in zip(mutants, right, strict=True))
        assert [_code(m) for m in mutants] == right


def _code(mutant: Mutant) -> object:
    return mutant.function.__code__  # type: ignore[attr-defined]
