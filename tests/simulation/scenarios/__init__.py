"""Failures that other systems had, each as the shortest story with real nodes, and what happens without the defence."""
