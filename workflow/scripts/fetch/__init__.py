"""Fetching what is published: resumed, verified, whole or not at all. The standard library and a progress bar."""
