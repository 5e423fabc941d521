"""The engines: for each, faster twins of the written functions (`minidl.engine`)."""
