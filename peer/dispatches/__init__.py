"""The life of a dispatch, the rules of its payload, text made safe to show. Pure: storing, sending are elsewhere."""
