"""The windows that a convolution or a pooling slides over an image."""

from minidl.reference.arrays import Array

Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
    """Return (height, width): the number twice, or the two numbers given.

    >>> pair(3), pair((4, 5))
    ((3, 3), (4, 5))
    """
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def output_size(where: str, x: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """Return the number of windows along the height and along the width.

    Ho = floor((H + 2·padding − kernel) / stride) + 1

    >>> import numpy as np
    >>> output_size("conv2d", np.zeros((1, 1, 5, 7)), kernel_size=3, stride=2, padding=(0, 1))
    (2, 4)
    """
    if x.ndim != 4:
        raise ValueError(f"{where}: x must be of shape (N, C, H, W), got {x.shape}; reshape x")
    sizes = []
    for size, kernel, step, pad in zip(x.shape[2:], pair(kernel_size), pair(stride), pair(padding), strict=True):
        if kernel < 1 or step < 1 or pad < 0:
            raise ValueError(
                f"{where}: kernel_size and stride must be at least 1 and padding at least 0, "
                f"got {kernel_size}, {stride} and {padding}; correct them"
            )
        if size + 2 * pad < kernel:
            raise ValueError(
                f"{where}: kernel_size must be at most the padded image, got {kernel} for {size} + 2·{pad} pixels; "
                "use a smaller kernel or more padding"
            )
        sizes.append((size + 2 * pad - kernel) // step + 1)
    return sizes[0], sizes[1]
