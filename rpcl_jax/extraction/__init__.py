"""Extraction of feature tables from audio and video clips."""
