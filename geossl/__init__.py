"""Geography-aware self-supervised learning."""
