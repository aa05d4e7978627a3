"""The ground: files, cache, locks, log, devices, archives, colours."""
