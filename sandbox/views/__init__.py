"""Views: what a run gets in place of the person's writable folders, over originals that it never writes."""
