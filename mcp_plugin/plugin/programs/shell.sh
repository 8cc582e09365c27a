# The hook before every command of the host's shell and every file it writes: starts `dispatch-mcp witness --shell` with
# the event, but only where something in it may name dispatch, since the session waits for it. POSIX sh alone.
#
# The event is JSON, so a line that a backslash continues has `\\\n` in it: taken out before the other backslashes.

event=$(cat)
state=${DISPATCH_HOME:-.dispatch}
case $(printf '%s\n' "$event" | sed 's/\\\\\\n//g' | tr -d '\\"'"'") in
*dispatch* | *cli.main* | *mcp_plugin* | *local.token* | *picks.json* | *"${state##*/}"*)
    printf %s "$event" | sh "$(dirname "$0")/start.sh" dispatch-mcp witness --shell
    ;;
esac
exit 0
