"""`python -m ekiden`: the `ekiden` program."""

from ekiden.cli import main

main()
