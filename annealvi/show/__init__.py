"""Output of the package: files, tables for people, figures and their style."""
