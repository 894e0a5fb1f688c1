"""What the end-to-end tests are made of: processes, a scripted registry, a real registry, clients."""
