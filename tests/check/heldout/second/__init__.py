"""A second held-out set, written from public reports before anything of the diagnosis was read, and measured once."""
