"""The same for an ordinary user, whose overlays are made in a user's namespace: the kernel keeps no origins there, and
what a run closed is closed for its owner. `make test` repeats a part (tests/sandbox/test_ordinary_user.py).
"""

from __future__ import annotations

import pytest

from tests.sandbox.test_ordinary_user import again_as_ordinary_user

TESTS = [f"tests/sandbox/changes/test_{name}.py" for name in ("changes", "conflicts", "patch")]
COMMITS = [
    f"tests/sandbox/changes/test_commits.py::test_{name}"
    for name in (
        "new_commits_are_one_entry_with_each_shown",
        "settings_hooks_and_attributes_of_the_view_do_nothing_here",
    )
]
LANDED = ["tests/landing/test_commits.py::test_they_become_refs_and_nothing_else_changes"]
HOSTILE = [
    f"tests/sandbox/changes/test_hostile.py::test_{name}"
    for name in (
        "closed_folders_and_files_are_opened",
        "pipes_sockets_and_devices_are_never_opened",
        "a_forged_deletion_in_a_copy_deletes_nothing",
        "marks_that_a_run_sets_in_an_overlay_are_none",
        "the_kernels_second_form_of_a_deletion",
        "nothing_is_read_through_links",
    )
]


@pytest.mark.long
def test_everything_holds_for_an_ordinary_user() -> None:
    again_as_ordinary_user(*TESTS, *HOSTILE, *COMMITS, *LANDED)
