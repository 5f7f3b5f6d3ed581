"""The command line: `creditd dev`, `serve`, `check`, `consume`, `replay` and the rest, one module per family."""
