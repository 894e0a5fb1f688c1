"""What the end-to-end tests are made of: processes, a fake upstream, a real origin, clients."""
