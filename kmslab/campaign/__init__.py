"""Plan, run, verify, resume, undo: re-encrypt everything that a source holds."""
