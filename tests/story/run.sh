#!/bin/sh
# The story of `make run`: a reply of a language model streams into a row of a chat while somebody else watches.
#
#   tests/story/run.sh [folder of segued and segue]
#
# Processes of their own: the service, a stand-in for an LLM provider, a subscriber (`segue sub`), and whatever writes. On a terminal the service then
# stays up until Ctrl-C; without one this ends with status 0 if all of it went as told, and not 0 if any part did not.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:-$here/../../build}" && pwd)
fixtures=$(cd "$here/../fixtures" && pwd)
reply=$fixtures/provider/tides.http
data=$(mktemp -d "${TMPDIR:-/tmp}/segue-run-XXXXXX")
segued_pid= provider_pid= sub_pid= tee_pid=

# ---- telling ----

bold= dim= plain=
if [ -t 1 ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m'); fi

say() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# Shows a command as one would type it.
show() {
    printf '%s$ segue' "$dim"
    for word in "$@"; do
        case $word in *[!A-Za-z0-9_./:@=-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '%s\n' "$plain"
}

# And does it.
run() {
    show "$@"
    "$bin/segue" "$@"
}

fail() {
    echo "run: $1" >&2
    exit 1
}

# ---- beginning and end ----

finish() {
    status=$?
    trap - EXIT INT TERM
    for pid in $sub_pid $segued_pid $provider_pid $tee_pid; do kill "$pid" 2>/dev/null || true; done
    for pid in $sub_pid $segued_pid $provider_pid $tee_pid; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$data"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_for WHAT PID COMMAND…: until the command succeeds, as long as the process lives; at most half a minute.
wait_for() {
    what=$1 pid=$2
    shift 2
    for _ in $(seq 300); do
        if "$@" 2>/dev/null; then return 0; fi
        kill -0 "$pid" 2>/dev/null || fail "$what never came: the process has ended"
        sleep 0.1
    done
    fail "$what never came"
}

seen() { grep -q "$1" "$data/seen"; }

# ---- the story ----

say "1. The service: one process, one folder, a free port. And a stand-in for an LLM provider, which replays a reply."
"$bin/tests/provider/provider" --folder "$fixtures/provider" >"$data/provider" &
provider_pid=$!
wait_for "the provider" $provider_pid grep -q listening "$data/provider"
provider=$(sed -n 's/.*listening on //p' "$data/provider")
echo "the stand-in, process $provider_pid, speaks chat completions on $provider"
"$bin/segued" --data "$data/data" --listen 127.0.0.1:0 --dev --llm-provider "stand-in $provider/v1" >"$data/out" 2>"$data/log" &
segued_pid=$!
wait_for "the service" $segued_pid grep -q listening "$data/out"
SEGUE_URL=$(sed -n 's/.*listening on //p' "$data/out")
export SEGUE_URL
echo "segued, process $segued_pid, listens on $SEGUE_URL"

say "2. A schema: chats, and messages that have a stream, a status and an attachment."
run schema push "$fixtures/chat.sql"

say "3. A chat, and a subscriber, a process of its own: it follows the rows, and a stream that does not exist yet."
chat=$(cat /proc/sys/kernel/random/uuid)
message=$(cat /proc/sys/kernel/random/uuid)
body=rows/messages/$message/body
run batch - <<END
{"ops":[{"op":"insert","table":"chats","id":"$chat","values":{"title":"Tides"}}]}
END
: >"$data/seen"
mkfifo "$data/screen"
tee "$data/seen" <"$data/screen" &
tee_pid=$!
chats='select title from chats' messages='select role, status, usage, attachment from messages'
echo "$dim\$ segue sub --query 'chats=$chats' --query 'messages=$messages' --stream reply=$body$plain"
"$bin/segue" sub --query "chats=$chats" --query "messages=$messages" --stream "reply=$body" >"$data/screen" &
sub_pid=$!
echo "segue sub, process $sub_pid; what it says begins with the [seq] of its commit"
wait_for "the chat" $sub_pid seen 'Tides'

say "4. The question. In ONE batch: a message, with it its stream, and the job. Then the service calls the model, and each token is on
   the disk before anybody sees it."
set -- ask --model tides --id "$message" --set "chat=$chat" --set role=assistant --status status --usage usage 'What is a tide?'
show "$@"
"$bin/segue" "$@" >"$data/said" &
ask_pid=$!
wait_for "the last tokens" $sub_pid seen 'high tide'

say "5. The end, in ONE batch: the stream closes and the row says so, with the tokens used. No reader ever sees one without the other."
wait_for "the end of the reply" $sub_pid seen 'reply closed'
wait $ask_pid || fail "segue ask went wrong"
echo "segue ask has ended, with the whole reply on its standard output"

say "6. Another one, cancelled in the middle: what was said stays, and the connection to the provider is closed."
set -- ask --model slow --set "chat=$chat" --set role=assistant --status status 'And what is a tick?'
show "$@"
"$bin/segue" "$@" >"$data/ticks" 2>&1 &
ask_pid=$!
wait_for "the ticks" $ask_pid grep -q 'tick tick' "$data/ticks"
kill $ask_pid
if wait $ask_pid; then fail "it was not cancelled"; fi
tail -n 1 "$data/ticks"
wait_for "the provider's loss" $provider_pid grep -q 'gone slow' "$data/provider"
wait_for "the cancelled row" $sub_pid seen 'status=cancelled'

say "7. A real file: segued itself, stored by its digest, then linked to the message."
digest=$(run put "$bin/segued" | tee "$data/put" | tail -n 1)
cat "$data/put"
run batch - <<END
{"ops":[{"op":"update","table":"messages","id":"$message","values":{"attachment":{"blob":"$digest"}}}]}
END
wait_for "the attachment" $sub_pid seen "$digest"

say "8. A large file, and the client is killed in the middle of it. The next run goes on where the service is."
film=$data/film
head -c 100000000 /dev/urandom >"$film"
echo "$dim\$ segue put film &"
XDG_STATE_HOME=$data/state
export XDG_STATE_HOME
"$bin/segue" put "$film" >"$data/put" 2>&1 &
put_pid=$!
before=$(du -sk "$data/data/apps/default/packs" | cut -f1)
while [ $(($(du -sk "$data/data/apps/default/packs" | cut -f1) - before)) -lt 20000 ]; do
    kill -0 $put_pid 2>/dev/null || break
done
kill -9 $put_pid 2>/dev/null || fail "the upload was over before it could be broken"
wait $put_pid 2>/dev/null || true
echo "killed -9 with $((($(du -sk "$data/data/apps/default/packs" | cut -f1) - before) / 1000)) MB of 100 on the way"
film_digest=$(run put "$film" | tee "$data/put" | tail -n 1)
cat "$data/put"
[ "$film_digest" = "$(sha256sum "$film" | cut -c-64)" ] || fail "the film has another digest"
echo "which is what sha256sum says"

say "9. Is it all there?"
awk -f "$here/tokens.awk" "$reply" >"$data/meant"
"$bin/segue" stream tail --no-follow "$body" >"$data/stored"
cmp "$data/meant" "$data/stored" && { cat "$data/meant"; echo; } | cmp - "$data/said" || fail "the stream is not what the model said"
echo "the stream has the $(wc -c <"$data/meant" | tr -d ' ') bytes that the model said"
"$bin/segue" get "$digest" -o "$data/copy"
cmp "$bin/segued" "$data/copy" || fail "the attachment is not the file"
echo "the attachment is the file, byte for byte"
run query 'select role, status, usage from messages'

if [ ! -t 0 ] || [ ! -t 1 ]; then
    say "That was the story."
    exit 0
fi

say "The service and the subscriber stay up until Ctrl-C. In another terminal:"
cat <<END
    export SEGUE_URL=$SEGUE_URL PATH=$bin:\$PATH
    segue query 'select * from messages'
    segue sub --stream talk
    segue stream append --type text/plain talk             # then type
    segue stream tail $body
    curl -N "$SEGUE_URL/apps/default/v1/stream/$body?offset=-1&live=sse"
    curl $SEGUE_URL/metrics
END
trap 'echo; exit 0' INT TERM
wait $segued_pid || fail "the service ended by itself"
