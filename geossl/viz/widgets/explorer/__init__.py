"""The explorer of embeddings: its script, what it shows, and the page that it can be saved as."""

__all__: list[str] = []
