"""Do two backends compute the same? ``python -m minidl.parity --backend cupy``.

Every layer, loss, optimiser, loader and model is made twice from one seed, given the same input and the same random
cotangent, and what the two give is compared, value by value.
"""
