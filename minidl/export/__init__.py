"""A trained network for other programs: `python -m minidl.export RUN`."""
