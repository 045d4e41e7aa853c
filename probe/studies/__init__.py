"""Experiments as data: recipes, the trainer that runs them, sweeps over them, and studies reproduced."""
