"""The lab as an HTTP server, to which the vendors' own clients connect (docs/wire.md)."""
