# Starts `dispatch-mcp` wherever it is installed: `sh start.sh dispatch-mcp ARGUMENT…`. Where it is not installed, prints
# how to install it in the form that the caller (server, hook or monitor) can show. POSIX sh alone; reads no input.

program=$1
shift

state=${DISPATCH_HOME:-${HOME:-}/.dispatch}
installed=
case $state in
/*)
    # The folder that `dispatch plugin install` was run from: a virtual environment is seldom on the path.
    if [ -f "$state/programs" ]; then IFS= read -r installed <"$state/programs" || :; fi
    ;;
esac

case $installed in
/*) if [ -x "$installed/$program" ]; then exec "$installed/$program" "$@"; fi ;;
esac
if command -v "$program" >/dev/null 2>&1; then exec "$program" "$@"; fi
if [ -x "${HOME:-}/.local/bin/$program" ]; then exec "$HOME/.local/bin/$program" "$@"; fi

[ "$program" = dispatch-mcp ] || exit 127
case ${1:-} in
'') exec sh "$(dirname "$0")/missing.sh" ;;
announce)
    if [ "${2:-}" = --session-start ]; then
        how="dispatch: its programs are not installed. Install them from your dispatch checkout or archive, as its docs/install.md says, never by name from a package index. Then run dispatch plugin install, and start a new session."
        printf '{"systemMessage":"%s","hookSpecificOutput":{"hookEventName":"SessionStart","additionalContext":"%s"}}\n' "$how" "$how"
    fi
    exit 0
    ;;
witness)
    # Nothing can be checked, so the host asks the person.
    if [ "${2:-}" = --calling ]; then
        printf '{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"ask","permissionDecisionReason":"%s"}}\n' \
            "dispatch: its programs are not installed, so nothing can check whether the picker asked you about this call"
    fi
    exit 0
    ;;
esac
exit 127
