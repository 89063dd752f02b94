"""Losses that keep a model from using what a mask covers. One file per loss."""
