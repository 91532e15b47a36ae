"""From clips to feature tables."""
