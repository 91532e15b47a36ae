"""From scored dialogues to pairs, numbers and intervals."""
