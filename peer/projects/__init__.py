"""The index of this machine's projects and the matching of a task to one. Nothing found here ever enters a run."""

from peer.projects.index import ProjectIndex, Refreshed
from peer.projects.matching import Candidate, Suggestion

__all__ = ["Candidate", "ProjectIndex", "Refreshed", "Suggestion"]
