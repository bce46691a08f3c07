"""The multigrid solver against a direct one, on blocks of one and of several sizes."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from neural_photo_editor.imaging.membrane import MembraneEquations, membrane_equations
from neural_photo_editor.imaging.multigrid import MAX_DIRECT, TOLERANCE, solve_flows
from tests.unit.imaging.membranes import some_mask


def _equations(*, kind: str, max_exact_pixels: int) -> MembraneEquations:
    mask = some_mask(130, 171, kind=kind, seed=3)
    return membrane_equations(mask, max_exact_pixels=max_exact_pixels)


def _solve(equations: MembraneEquations, given: np.ndarray) -> np.ndarray:
    places = [(level.rows, level.columns) for level in equations.levels]
    return solve_flows(equations.matrix, given, places)


@pytest.mark.parametrize("max_exact_pixels", [0, 10**9])
@pytest.mark.parametrize("kind", ["blob", "holes", "dust", "thin", "walled"])
def test_the_remainder_keeps_the_tolerance_and_the_solution_is_near(
    kind: str, max_exact_pixels: int
) -> None:
    equations = _equations(kind=kind, max_exact_pixels=max_exact_pixels)
    matrix = equations.matrix.astype(np.float64)
    given = np.random.default_rng(0).standard_normal((matrix.shape[0], 3)).astype(np.float32)
    solution = _solve(equations, given)
    remainder = np.linalg.norm(given - matrix @ solution, axis=0)
    assert (remainder <= 2 * TOLERANCE * np.linalg.norm(given, axis=0)).all()
    exact = spsolve(matrix.tocsc(), given.astype(np.float64))
    assert np.linalg.norm(solution - exact) <= 2e-3 * np.linalg.norm(exact)


def test_channels_do_not_depend_on_each_other() -> None:
    equations = _equations(kind="walled", max_exact_pixels=10**9)
    assert equations.matrix.shape[0] > MAX_DIRECT
    given = np.random.default_rng(1).standard_normal((equations.matrix.shape[0], 2))
    given = given.astype(np.float32)
    given[:, 1] *= 1e4
    both = _solve(equations, given)
    one = _solve(equations, given[:, :1].copy())
    np.testing.assert_allclose(both[:, :1], one, atol=2e-3 * np.abs(one).max())


def test_nothing_given_is_solved_by_nothing() -> None:
    equations = _equations(kind="blob", max_exact_pixels=10**9)
    solution = _solve(equations, np.zeros((equations.matrix.shape[0], 3), dtype=np.float32))
    assert (solution == 0).all()


def test_few_equations_are_solved_by_factorization() -> None:
    matrix = sparse.csr_array(np.array([[3.0, -1.0], [-1.0, 2.0]], dtype=np.float32))
    places = [(np.array([0, 0]), np.array([0, 1]))]
    solution = solve_flows(matrix, np.array([[1.0], [3.0]], dtype=np.float32), places)
    np.testing.assert_allclose(solution, [[1.0], [2.0]], rtol=1e-5)
