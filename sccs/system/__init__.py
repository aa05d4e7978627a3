"""Foundations: files, cache, locks, log, devices, archives, colours."""
