"""What the end-to-end tests use: programs, a scripted registry, a real registry, clients."""
