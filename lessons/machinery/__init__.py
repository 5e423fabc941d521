"""How the course's sources become notebooks, and how they are proved to work."""
