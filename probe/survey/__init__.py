"""Which features are good for these classes: backbones × outputs × heads, planned and put in a table."""
