"""A third held-out set, written from public reports by somebody who had not seen the diagnosis, and measured once."""
