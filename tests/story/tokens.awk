# The text of a recorded reply (server-sent events of a streaming chat completion), and nothing else.

BEGIN {
    before = "\"delta\":{\"content\":\""
}

/^data: / && (at = index($0, before)) {
    printf "%s", unescape(substr($0, at + length(before)))
}

# The text of a JSON string that begins here, up to its closing quote.
function unescape(s,    out, c) {
    for (; s != ""; s = substr(s, 2)) {
        c = substr(s, 1, 1)
        if (c == "\"") return out
        if (c == "\\") {
            s = substr(s, 2)
            c = substr(s, 1, 1)
            if (c == "n") c = "\n"
            else if (c == "t") c = "\t"
        }
        out = out c
    }
    return out
}
