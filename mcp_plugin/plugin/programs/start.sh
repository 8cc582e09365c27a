# Starts a program of dispatch wherever it is installed: `sh start.sh PROGRAM ARGUMENT…`. Where it is not, says how to
# install it, in the way that whoever started this can show. POSIX sh alone; nothing here reads what others wrote.

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

case $program in
dispatch-mcp) exec sh "$(dirname "$0")/missing.sh" ;;
dispatch-announce)
    if [ "${1:-}" = --session-start ]; then
        how="dispatch: its programs are not installed. Install them with pip install 'dispatch-courier[claude]', then run dispatch plugin install, and start a new session."
        printf '{"systemMessage":"%s","hookSpecificOutput":{"hookEventName":"SessionStart","additionalContext":"%s"}}\n' "$how" "$how"
    fi
    exit 0
    ;;
dispatch-witness)
    # Unsure, so the person is asked.
    if [ "${1:-}" = --calling ]; then
        printf '{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"ask","permissionDecisionReason":"%s"}}\n' \
            "dispatch: the program that knows what the picker asked you is not installed"
    fi
    exit 0
    ;;
esac
exit 127
