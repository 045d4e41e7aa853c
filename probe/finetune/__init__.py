"""Fine-tuning: a network cut in two, what lies below the cut computed once, what lies above trained."""
