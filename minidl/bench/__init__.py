"""How fast minidl is, beside PyTorch where that is asked for: ``python -m minidl.bench --against torch``.

Both sides compute the same functions of the same values with the same number of threads, in one process, in turn:
`timing` says how. Nothing here is imported by the rest of minidl, and PyTorch only by `torch_side`.
"""
