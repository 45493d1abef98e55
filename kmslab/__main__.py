"""`python -m kmslab` is the command `kmslab`."""

from kmslab.cli import main

main()
