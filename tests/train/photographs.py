"""A folder of photographs, for the tests of networks and norms of one's own."""

import numpy as np


def photographs(folder):
    """Make eight images of noise of each of two classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
