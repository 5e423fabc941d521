"""The part of a batch that one of several processes takes."""


def part(n: int, rank: int, size: int) -> slice:
    """Return which of n samples are a process's: adjacent ones, shared out as evenly as can be.

    Parameters
    ----------
    n : int
        Samples of the batch.
    rank, size : int
        Which of how many processes.

    Examples
    --------
    >>> [part(8, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(rank * n // size, (rank + 1) * n // size)
