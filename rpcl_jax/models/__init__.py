"""The backbone and the pair scorer. Nothing here knows of training objectives."""
