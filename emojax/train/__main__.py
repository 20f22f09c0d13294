"""`python -m emojax.train --config=FILE ...`: see emojax/cli/train_config_cmd.py."""

from emojax.cli.train_config_cmd import start

if __name__ == "__main__":
    start()
