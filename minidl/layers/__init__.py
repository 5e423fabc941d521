"""Layers: a forward, and right below it its backward."""
