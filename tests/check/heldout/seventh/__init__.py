"""The seventh set of bugs, in the form that ``heldout/README.md`` describes."""
