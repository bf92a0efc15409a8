"""pdinfra's simulator of openYuanrong's full mode; see README.md."""
