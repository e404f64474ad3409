"""LFP compared with a surrogate-gradient baseline on event data sets, under one protocol."""
