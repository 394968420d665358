"""What the user wrote: pyproject.toml and the board file, read, typed and checked."""
