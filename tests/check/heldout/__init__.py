"""A held-out set of bugs and correct layers, which the diagnosis of minidl.check is measured by."""
