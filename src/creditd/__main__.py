"""`python -m creditd` is `creditd`."""

from creditd.cli.main import main

main()
