"""``python -m ottla.cli``: the ``ottla`` command without an installed script."""

from ottla.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
