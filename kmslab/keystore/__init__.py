"""Keys, versions and material at rest: sealed, authenticated, durable, counted, audited."""
