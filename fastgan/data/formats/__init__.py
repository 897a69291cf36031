"""One file a format, and in `table` the one list of them: suffix, name, reader."""
