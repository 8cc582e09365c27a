"""The content of the demo: Bob's small project with a bug, Alice's task and file, the scripted model's turns."""

from __future__ import annotations

import json

ALICE = "alice@demo.example"
BOB = "bob@demo.example"

PROJECT = "till"
"""The name of Bob's project, by which Bob's machine matches Alice's task to its folder."""

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


def script(project: str) -> str:
    """Return the turns of the scripted model as JSON: read the file in the folder `project`, write the corrected one,
    reply.
    """
    return json.dumps(
        {
            "turns": [
                {
                    "text": "I will read the function first.",
                    "tools": [{"name": "Read", "input": {"file_path": f"{project}/till.py"}}],
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
