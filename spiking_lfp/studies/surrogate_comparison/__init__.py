"""LFP beside a surrogate-gradient baseline on data sets of recordings, under one protocol."""
