"""What differs by version, as data files with the source of each row, and their readers."""
