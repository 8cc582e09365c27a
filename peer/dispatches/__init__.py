"""The rules of dispatches: states, payload, admission, redaction, safe display. Pure; storing and sending elsewhere."""
