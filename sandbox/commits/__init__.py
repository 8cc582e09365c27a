"""The commits that a run made in a view: found and packed in a sandbox, checked in a second one, shown as text."""
