"""Kills, full disks and damage at every step: what is promised of them, tried."""
