"""Training from scratch and fine-tuning: recipes, the trainer that runs them, and sweeps over them."""
