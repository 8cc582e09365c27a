"""Running one accepted dispatch, confined and gated. Knows nothing of peers, users or stores."""
