"""The gap between the scores of generated replies and of references, taken apart."""
