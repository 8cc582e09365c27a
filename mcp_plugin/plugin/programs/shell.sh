# The hook before every command of the host's shell and every file it writes: starts `dispatch-mcp witness --shell` with
# the event, but only where something in it may name dispatch, since the session waits for it. POSIX sh alone.

event=$(cat)
state=${DISPATCH_HOME:-.dispatch}
state=${state##*/}

judge() {
    printf %s "$event" | sh "$(dirname "$0")/start.sh" dispatch-mcp witness --shell
    exit 0
}

# Without quotes, backslashes and continued lines, as JSON writes them.
flat=$(printf %s "$event" | sed -e 's/\\\\\\n//g' | tr -d '\\"'"'")
case $flat in
*dispatch* | *cli.main* | *mcp_plugin* | *local.token* | *picks.json* | *"$state"*) judge ;;
esac
case $flat in
*tool_name:Bash* | *tool_name:PowerShell* | *tool_name:Monitor* | *tool_name:\ [BPM]*) ;;
*) exit 0 ;;
esac
# A word that a shell fills in may become one of our programs, or the state folder: it is matched as the pattern it is.
case $event in
*"$'"* | *import*cli* | *import*peer* | *from*cli* | *from*peer*) judge ;;
*\`* | *\$* | *[*?]* | *\{*) ;;
esac
set -f
for word in $(printf %s "$flat" | sed -E -e 's/\\n/ /g' -e 's/`[^`]*`|\$\([^()]*\)|\$?\{[^{}[:space:]]*\}|\$([A-Za-z0-9_]+|[@*#?!$-])/*/g' \
    | tr -s ' ;|&()<>{}=,:`$/' '\n' | grep '[*?[]' | grep '[a-z]'); do
    case $state in $word) judge ;; esac
    for program in dispatch dispatch-mcp cli.main mcp_plugin.main; do
        case $program in $word) judge ;; esac
    done
done
exit 0
