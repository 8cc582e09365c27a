# Stands in for the MCP server where the programs of dispatch are not installed: says how to install them, on every
# call, instead of being a server that has failed. Does nothing else. Messages come one a line (MCP, stdio transport);
# of each only its id and its method are looked at, in the orders in which clients write them.

how="The programs of dispatch are not installed on this machine. Install them from the dispatch checkout or archive that you were given, as its docs/install.md says, never by name from a package index. Then run: dispatch plugin install - and start a new session. Tell the person this; until then nothing in dispatch works."

say() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }

first='^\{("jsonrpc": ?"2\.0", ?)?("id": ?[^,]{1,66}, ?)?'
while IFS= read -r message; do
    id=$(printf '%s\n' "$message" | sed -nE \
        -e 's/^\{("jsonrpc": ?"2\.0", ?)?"id": ?([0-9]{1,15}|"[A-Za-z0-9_-]{1,64}")[,}].*$/\2/p' -e t \
        -e 's/^.*"id": ?([0-9]{1,15}|"[A-Za-z0-9_-]{1,64}")\}$/\1/p')
    [ -n "$id" ] || continue
    method=$(printf '%s\n' "$message" | sed -nE "s/$first\"method\": ?\"([a-zA-Z\\/]{1,40})\".*\$/\\3/p")
    case $method in
    initialize)
        version=$(printf '%s\n' "$message" | sed -nE 's/^.*"protocolVersion": ?"([0-9-]{10})".*$/\1/p')
        say "\"result\":{\"protocolVersion\":\"${version:-2025-06-18}\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"dispatch (not installed)\",\"version\":\"0\"},\"instructions\":\"$how\"}"
        ;;
    ping) say '"result":{}' ;;
    tools/list)
        say "\"result\":{\"tools\":[{\"name\":\"dispatch_read\",\"description\":\"$how\",\"inputSchema\":{\"type\":\"object\"},\"annotations\":{\"readOnlyHint\":true}}]}"
        ;;
    tools/call) say "\"result\":{\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":\"$how\"}]}" ;;
    *) say '"error":{"code":-32601,"message":"dispatch is not installed"}' ;;
    esac
done
