"""The paper's multi-task tables and figures, run and set beside the published numbers: `python -m minidl.reproduce`."""
