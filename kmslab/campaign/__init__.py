"""Re-encrypting all that a source holds, safely: planned, journalled, resumable, undone."""
