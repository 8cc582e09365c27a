"""Running accepted dispatches: folder, start frame, agent process, returned files, removal of what a run leaves."""
