"""Source that is copied into every generated module, kept as plain Python so that it can be read, typed and tested."""
