"""The dialogs of the explorer, one family a module."""
