"""The source that every generated module contains, kept as plain Python so that it can be read, typed and tested."""
