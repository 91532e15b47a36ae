"""From trained parameters to scores, pairs, metrics and confidence intervals."""
