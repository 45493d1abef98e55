"""The terminal explorer: browse, plan, re-encrypt, undo."""
