"""What a speed claim rests on."""
