"""What a speed claim rests on: four commands that measure; `make bench` runs them all."""
