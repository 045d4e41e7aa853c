"""Tests of behaviour, through public functions and the command line."""
