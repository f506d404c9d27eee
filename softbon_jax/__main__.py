"""`python -m softbon_jax` is the command `softbon`."""

from softbon_jax.command.main import main

if __name__ == "__main__":
    raise SystemExit(main())
