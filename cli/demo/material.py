"""What the demo is about: Bob's small project with a bug, Alice's task and file, and the scripted model's words."""

from __future__ import annotations

import json

ALICE = "alice@demo.example"
BOB = "bob@demo.example"

PROJECT = "till"
"""The name of Bob's project; Alice's task says it, and Bob's machine finds the folder by it."""

BUGGY = '''\
"""Adding up what is on a till receipt. Prices in cents."""


def total(prices, discount_percent=0):
    """Return the sum of the prices, less the discount."""
    whole = sum(prices)
    return whole - whole * discount_percent // 10
'''

FIXED = BUGGY.replace("// 10", "// 100")

ATTACHMENT = "report.txt"
REPORT = """\
What I saw: total([1000, 500], discount_percent=10) gives 0.
What I expected: 1350.
"""

TASK = (
    f"In the project {PROJECT}, total() in till.py takes far too much off when there is a discount; "
    f"{ATTACHMENT} has the numbers. Find out why, and send me a corrected till.py."
)
DELIVERABLE = "a corrected till.py, and one sentence on what was wrong"

RETURNED = "till.py"
REPLY = (
    "The discount was divided by 10 instead of 100, so 10 % took everything. "
    "The corrected till.py is attached; your project's own file is unchanged."
)


def script() -> str:
    """Return the script of the scripted model (JSON): it reads the file, writes the corrected one, and says why."""
    return json.dumps(
        {
            "turns": [
                {
                    "text": "I will read the function first.",
                    "tools": [{"name": "Read", "input": {"file_path": "/project/till.py"}}],
                },
                {
                    "text": "The discount is divided by 10 where 100 is meant.",
                    "tools": [
                        {"name": "Write", "input": {"file_path": "/dispatch/out/till.py", "content": FIXED}},
                    ],
                },
                {"text": REPLY},
            ]
        }
    )
