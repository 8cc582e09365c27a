"""What one run needs besides its sandbox and its agent: folder, grants, prompts, returned files."""
