"""The parts of script/generate."""
