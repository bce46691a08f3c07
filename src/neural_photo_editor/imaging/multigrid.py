"""Solves the equations of flows between blocks of a photo, many at a time, in linear time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of blocks, in units of their side."""

TOLERANCE = 1e-4
"""Largest norm of what remains, ``given - matrix @ solution``, over the norm of ``given``."""

MAX_ITERATIONS = 200
"""Ten times what the worst masks take; a bound for the case that rounding hides the last step."""

MAX_DIRECT = 1500
"""So many equations are solved by factorization."""

DAMPING = np.float32(0.8)
"""Of Jacobi's iteration: short waves keep 0.6 of their height at most, the least in 2-D."""


@dataclass(frozen=True)
class _Grid:
    """Equations of one grid, and how its values become those of the next coarser one.

    Attributes:
        matrix: symmetric, positive definite, float32, (n, n).
        step: Jacobi's damped step, float32, (n, 1).
        spread: gives every block the value of the coarser block it is in, float32, (n, coarser).
        gather: its transpose.
    """

    matrix: sparse.csr_array
    step: NDArray[np.float32]
    spread: sparse.csr_array
    gather: sparse.csr_array


def solve_flows(
    matrix: sparse.csr_array, given: NDArray[np.float32], places: Sequence[Places]
) -> NDArray[np.float32]:
    """Solve ``matrix @ solution = given`` by conjugate gradients, preconditioned by multigrid.

    McAdams, Sifakis and Teran, "A parallel multigrid Poisson solver" (SCA 2010), with the grids of
    Briggs, Henson and McCormick ("A Multigrid Tutorial", chapters 2 and 3) made of whole blocks:
    the smallest blocks are merged four by four, again and again.

    Args:
        matrix: flows between blocks and from outside: symmetric, positive definite, no positive
            number off the diagonal, float32, (n, n).
        given: float32, (n, channels).
        places: where the blocks are, in the matrix's order: those of the smallest side, of twice
            that side, and so on.

    Returns:
        float32, (n, channels), with a remainder of at most ``TOLERANCE`` in each channel.
    """
    grids, coarsest = _grids(matrix, places)
    solution = np.zeros_like(given)
    remainder = given.copy()
    enough = TOLERANCE**2 * _products(given, given)
    direction, previous = np.zeros_like(given), np.ones(given.shape[1], dtype=np.float32)
    for _ in range(MAX_ITERATIONS):
        if (_products(remainder, remainder) <= enough).all():
            break
        better = _cycle(grids, coarsest, remainder)
        progress = _products(remainder, better)
        direction = better + direction * _ratio(progress, previous)
        image = matrix @ direction
        length = _ratio(progress, _products(direction, image))
        solution += length * direction
        remainder -= length * image
        previous = progress
    return solution


def _products(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner product of each channel; a product of matrices reads memory once, `sum` does not."""
    products: NDArray[np.float32] = (one.T @ other).diagonal()
    return products


def _ratio(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide; 0 where a channel is already solved and there is nothing to divide by."""
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0)


def _cycle(
    grids: Sequence[_Grid], coarsest: SuperLU, given: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Solve roughly: one V-cycle, a linear and symmetric function of ``given``."""
    if not grids:
        solved: NDArray[np.float32] = coarsest.solve(given)
        return solved
    grid = grids[0]
    solution = grid.step * given
    missing = grid.gather @ (given - grid.matrix @ solution)
    solution += grid.spread @ _cycle(grids[1:], coarsest, missing)
    solution += grid.step * (given - grid.matrix @ solution)
    return solution


def _grids(matrix: sparse.csr_array, places: Sequence[Places]) -> tuple[list[_Grid], SuperLU]:
    """Return the grids, finest first, and the factors of the coarsest one's matrix."""
    grids: list[_Grid] = []
    larger = iter(places[1:])
    rows, columns = places[0]
    while matrix.shape[0] > MAX_DIRECT:
        rows, columns, parents = _merge(rows >> 1, columns >> 1)
        merged, kept = len(rows), matrix.shape[0] - len(parents)
        parents = np.concatenate([parents, np.arange(merged, merged + kept)])
        ones = np.ones(len(parents), dtype=np.float32)
        spread = sparse.csr_array((ones, parents, np.arange(len(parents) + 1)))
        gather = spread.T.tocsr()
        grids.append(_Grid(matrix, DAMPING / matrix.diagonal()[:, None], spread, gather))
        matrix = _coarser(gather @ matrix @ spread, merged)
        more_rows, more_columns = next(larger, (rows[:0], columns[:0]))
        rows, columns = np.concatenate([rows, more_rows]), np.concatenate([columns, more_columns])
    # Symmetric and dominated by its diagonal: no row has to be exchanged.
    symmetric = {"SymmetricMode": True}
    factors = splu(
        matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric
    )
    return grids, factors


def _merge(
    rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each place once: rows, columns; and which of these every given place is."""
    width = int(columns.max()) + 1
    unique, inverse = np.unique(rows * width + columns, return_inverse=True)
    return *np.divmod(unique, width), inverse


def _coarser(total: sparse.csr_array, merged: int) -> sparse.csr_array:
    """Turn summed flows into those between the merged blocks, which are the first ones.

    Their faces are twice as long, which the sum accounts for; so is the way between their
    centers, which halves the flow. The flow from outside stays as it is.
    """
    outside = total.sum(axis=1)
    scale = np.ones(total.shape[0], dtype=np.float32)
    scale[:merged] = np.sqrt(0.5)
    scaling = sparse.diags_array(scale)
    between = scaling @ (total - sparse.diags_array(total.diagonal())) @ scaling
    diagonal = outside - between.sum(axis=1)
    return (between + sparse.diags_array(diagonal)).tocsr().astype(np.float32)
