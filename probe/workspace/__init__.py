"""What commands and notebooks call: one file a verb, and `Workspace` with all of them."""
