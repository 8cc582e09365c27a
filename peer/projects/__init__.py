"""The index of this machine's projects and the matching of tasks to them. Nothing of the index ever enters a run."""

from peer.projects.index import ProjectIndex, Refreshed
from peer.projects.matching import Candidate, Suggestion

__all__ = ["Candidate", "ProjectIndex", "Refreshed", "Suggestion"]
