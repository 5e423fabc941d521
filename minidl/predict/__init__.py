"""What is in an image, by a trained network: `python -m minidl.predict RUN IMAGE...`, or `minidl.load(RUN).predict`."""
