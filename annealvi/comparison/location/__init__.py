"""Where an equation goes wrong: the terms or the definition whose repair makes it right."""
