# The hook before every command of the host's shell and every file it reads or writes: starts `dispatch-mcp witness --shell` with
# the event, but only where something in it may name dispatch, since the session waits for it. POSIX sh alone.

event=$(cat)
state=${DISPATCH_HOME:-.dispatch}
state=${state##*/}

judge() {
    printf %s "$event" | sh "$(dirname "$0")/start.sh" dispatch-mcp witness --shell
    exit 0
}

# As JSON writes them: continued lines joined, backslashes and quotes taken off, other line ends made blanks.
flat=$(printf %s "$event" | sed -e 's/\\\\\\n//g' -e 's/\\\\//g' -e 's/\\[nrt]/ /g' | tr -d '\\"'"'")
case $flat in
*dispatch* | *cli.main* | *mcp_plugin* | *local.token* | *picks.json* | */v1/* | *"$state"*) judge ;;
esac
case $flat in
*tool_name:Bash* | *tool_name:PowerShell* | *tool_name:Monitor* | *tool_name:\ [BPM]*) ;;
*) exit 0 ;;
esac
# A word that a shell fills in may become one of our programs, or the state folder: it is matched as the pattern it is.
case $event in
*"$'"* | *import*cli* | *import*peer* | *from*cli* | *from*peer*) judge ;;
esac
set -f
for word in $(printf %s "$flat" | sed -E -e 's/`[^`]*`|\$\([^()]*\)|\$?\{[^{}[:space:]]*\}|\$([A-Za-z0-9_]+|[@*#?!$-])/*/g' \
    | tr -s ' ;|&()<>{}=,:`$/' '\n' | grep '[*?[]' | grep '[a-z]'); do
    case $state in $word) judge ;; esac
    for program in dispatch dispatch-mcp cli.main mcp_plugin.main; do
        case $program in $word) judge ;; esac
    done
done
exit 0
