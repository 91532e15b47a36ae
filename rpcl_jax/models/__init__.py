"""The backbone and the pair scorer. Nothing here depends on the training objective."""
