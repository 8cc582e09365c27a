"""An accepted dispatch's way out: its folder, the start frame, the agent's process, the files that go back."""
