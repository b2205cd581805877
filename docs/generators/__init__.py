"""What `docs/generate.py` writes, one module a document. Each gives its text and touches no file."""
