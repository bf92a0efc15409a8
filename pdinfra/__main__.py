"""Run the command line: ``python -m pdinfra VERB``."""

from pdinfra.cli.app import main

if __name__ == "__main__":
    main()
